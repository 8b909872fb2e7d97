/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calls of <twinlog.h> and <twinlog_sink.h> for __init__.py, which has the classes that users see, the errors and
 * asyncio.
 *
 * A call counts itself in its handle (enter, leave) and runs without the interpreter's lock. A close refuses later
 * calls and waits for those that have begun. The mutex of a handle is held for a moment, by threads that do not want
 * the interpreter's lock meanwhile. Arguments are checked before C gets them: a wrong one raises, and nothing happened.
 *
 * The state is the module's, so that each sub-interpreter has its own. Without the interpreter's lock the fields of a
 * handle that the mutex does not guard would race: a free-threaded Python takes the lock back when it imports this.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <twinlog_admin.h>
#include <twinlog_sink.h>

/* Of __init__.py, given to use(), and one of sys. */
struct state {
    PyObject *record, *entry; /* types */
    PyObject *error;          /* makes the exception of a number */
    PyObject *is_finalizing;
    PyObject *committer; /* the type */
    allocfunc alloc_record;
};

/* A Log, Reader, Consumer or Sink. */
struct handle {
    PyObject_HEAD PyObject *module; /* NULL: never opened. Keeps the state */
    struct state *state;
    unsigned fork;
    struct twinlog *log;
    struct twinlog_reader *reader; /* of a Consumer, too */
    struct twinlog_consumer *consumer;
    struct twinlog_sink *sink;
    struct twinlog_report report; /* not of a Sink */
    struct handle
        *readers; /* of a Log: those that are open. By the lock of the interpreter, as the two below */
    struct handle *of_log, *next; /* of a Reader of a Log: while it is in that list */
    uint64_t withheld_lsn; /* of a Consumer: the record that a caller did not get from C yet; 0 = none */
    PyObject *on_work; /* of a Log whose commits an event loop does: called when there are some; or NULL */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool is_open;     /* [mutex] */
    bool is_closing;  /* [mutex] */
    pthread_t closer; /* [mutex] while it is closing */
    int calls;        /* [mutex] that have begun; one at a time but for a Log or Sink */
};

static unsigned forks; /* how often this process is a child: a handle of another count is the parent's */

static void count_fork(void)
{
    forks++;
}

/* ---- errors ------------------------------------------------------------------------------------------ */

static PyObject *report_of(const struct twinlog_report *c)
{
    PyObject *file = PyUnicode_DecodeFSDefault(c->file);
    PyObject *text = PyUnicode_DecodeUTF8(c->text, (Py_ssize_t)strlen(c->text), "replace");
    return Py_BuildValue("(IIiKKKKKNN)", c->finding, c->action, c->error, c->segment, c->offset, c->bytes,
                         c->first_lsn, c->last_lsn, file, text);
}

static PyObject *fail_with(struct state *state, int rc, uint64_t lsn, PyObject *path,
                           const struct twinlog_report *report)
{
    PyObject *found;
    if (report && report->error == rc && report->text[0])
        found = report_of(report);
    else
        found = Py_NewRef(Py_None);
    if (!found)
        return NULL;

    if (!path)
        path = Py_None;
    PyObject *error = PyObject_CallFunction(state->error, "iKON", rc, lsn, path, found);
    if (!error)
        return NULL;

    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_DECREF(error);
    return NULL;
}

static PyObject *fail(struct handle *h, int rc)
{
    return fail_with(h->state, rc, 0, NULL, &h->report);
}

static PyObject *none_or_error(struct handle *h, int rc)
{
    if (rc < 0)
        return fail(h, rc);
    return Py_NewRef(Py_None);
}

/* ---- calls ------------------------------------------------------------------------------------------- */

static bool is_for_many_threads(const struct handle *h)
{
    return h->log || h->sink;
}

static bool must_wait(const struct handle *h)
{
    return h->is_open && h->calls > 0 && !is_for_many_threads(h);
}

/* False: an exception is set. */
static bool enter(struct handle *h)
{
    PyThreadState *thread = NULL;
    bool is_open;

    if (h->module && h->fork != forks) {
        fail(h, TWINLOG_EFORKED);
        return false;
    }

    pthread_mutex_lock(&h->mutex);
    if (must_wait(h))
        thread = PyEval_SaveThread();
    while (must_wait(h))
        pthread_cond_wait(&h->changed, &h->mutex);
    is_open = h->is_open;
    h->calls += is_open;
    pthread_mutex_unlock(&h->mutex);
    if (thread)
        PyEval_RestoreThread(thread);
    if (!is_open)
        PyErr_SetString(PyExc_ValueError, "it is closed");
    return is_open;
}

static void leave(struct handle *h)
{
    pthread_mutex_lock(&h->mutex);
    h->calls--;
    if (!is_for_many_threads(h) || !h->is_open)
        pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->mutex);
}

/* What is in the statement may wait, so other threads of Python run meanwhile. */
#define WITHOUT_LOCK(statement)                                                                              \
    do {                                                                                                     \
        PyThreadState *thread_ = PyEval_SaveThread();                                                        \
        statement;                                                                                           \
        PyEval_RestoreThread(thread_);                                                                       \
    } while (0)

/* The same on a handle. Returns from the function around it if the handle is closed. */
#define CALL(h, statement)                                                                                   \
    do {                                                                                                     \
        if (!enter(h))                                                                                       \
            return NULL;                                                                                     \
        WITHOUT_LOCK(statement);                                                                             \
        leave(h);                                                                                            \
    } while (0)

/* No weak references: the garbage collector clears those before it calls what closes a Reader. */
static void add_reader(struct handle *log, struct handle *reader)
{
    reader->of_log = log;
    reader->next = log->readers;
    log->readers = reader;
}

static void remove_reader(struct handle *reader)
{
    if (!reader->of_log)
        return;

    struct handle **at = &reader->of_log->readers;
    while (*at != reader)
        at = &(*at)->next;
    *at = reader->next;
    reader->of_log = NULL;
}

static PyObject *begin_open(struct handle *h, PyObject *module)
{
    if (h->module)
        return PyErr_Format(PyExc_ValueError, "it was opened before");

    h->state = PyModule_GetState(module);
    h->fork = forks;
    memset(&h->report, 0, sizeof(h->report));
    pthread_mutex_init(&h->mutex, NULL);
    pthread_cond_init(&h->changed, NULL);
    return module;
}

/* Returns the report. */
static PyObject *end_open(struct handle *h, PyObject *module, int rc, PyObject *path)
{
    if (rc < 0)
        return fail_with(h->state, rc, 0, path, &h->report);
    h->module = Py_NewRef(module);
    h->is_open = true; /* before anything that may let other threads run */
    return report_of(&h->report);
}

/* What a close waits for: the calls that have begun, if it is the one that closes; otherwise the end of the close that
 * another thread has begun. */
static bool must_wait_to_close(const struct handle *h, bool closes)
{
    if (closes)
        return h->calls > 0;
    return h->is_closing && !pthread_equal(h->closer, pthread_self());
}

/* Refuses later calls and waits for those that have begun. False: it is closed, by this or another thread. What a close
 * calls, and a signal's handler meanwhile, may close as well. When the interpreter ends, the calls of daemon threads
 * never do: then what they use is left to the end of the process. */
static bool begin_close(struct handle *h, bool may_wait)
{
    bool was_open;

    pthread_mutex_lock(&h->mutex);
    was_open = h->is_open && (may_wait || h->calls == 0);
    if (was_open) {
        h->is_open = false;
        h->is_closing = true;
        h->closer = pthread_self();
    }

    pthread_cond_broadcast(&h->changed);
    while (may_wait && must_wait_to_close(h, was_open))
        pthread_cond_wait(&h->changed, &h->mutex);
    pthread_mutex_unlock(&h->mutex);
    return was_open;
}

static int end_close(struct handle *h)
{
    int rc = 0;

    if (h->log)
        rc = twinlog_close(h->log);
    else if (h->sink)
        rc = twinlog_sink_close(h->sink);
    else if (h->consumer)
        twinlog_consumer_close(h->consumer);
    else
        twinlog_reader_close(h->reader);
    pthread_mutex_lock(&h->mutex);
    h->is_open = h->log && rc == -EBUSY; /* nothing happened */
    h->is_closing = false;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->mutex);
    return rc;
}

/* _close(calls): calls each of `calls` when nothing else uses the handle any more, and closes it. Returns the result,
 * or None if it was closed before. */
static PyObject *close_handle(struct handle *h, PyObject *to_call)
{
    bool is_ours, may_wait;
    int rc;

    if (!h->module || h->fork != forks)
        return Py_NewRef(Py_None); /* or it is the parent's */

    PyObject *is_finalizing = PyObject_CallNoArgs(h->state->is_finalizing);
    if (!is_finalizing)
        return NULL;

    may_wait = is_finalizing == Py_False;
    Py_DECREF(is_finalizing);
    WITHOUT_LOCK(is_ours = begin_close(h, may_wait));
    if (!is_ours)
        return Py_NewRef(Py_None);

    PyObject *calls = PyList_AsTuple(to_call); /* another thread may take some from the list meanwhile */
    for (Py_ssize_t i = 0; calls && i < PyTuple_Size(calls); i++) {
        PyObject *result = PyObject_CallNoArgs(PyTuple_GetItem(calls, i));
        if (!result)
            PyErr_WriteUnraisable(NULL);
        Py_XDECREF(result);
    }

    Py_XDECREF(calls);
    PyErr_Clear();
    WITHOUT_LOCK(rc = end_close(h));
    remove_reader(h);
    return PyLong_FromLong(rc);
}

static PyObject *handle_enter(struct handle *h, PyObject *none)
{
    (void)none;
    if (!enter(h))
        return NULL;
    leave(h);
    return Py_NewRef((PyObject *)h);
}

/* In a forked child the mutex may be locked for ever, by a thread that only the parent has. */
static PyObject *handle_closed(struct handle *h, void *none)
{
    bool is_open = false;

    (void)none;
    if (h->module && h->fork == forks) {
        pthread_mutex_lock(&h->mutex);
        is_open = h->is_open;
        pthread_mutex_unlock(&h->mutex);
    }

    return PyBool_FromLong(!is_open);
}

static void handle_free(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    struct handle *h = (struct handle *)self;

    remove_reader(h); /* those that are open here are of a parent process */
    while (h->readers)
        remove_reader(h->readers);
    Py_XDECREF(h->module);
    Py_XDECREF(h->on_work);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

/* ---- arguments: converters of "O&" ------------------------------------------------------------------- */

static bool number(PyObject *object, unsigned bits, uint64_t *ret)
{
    PyObject *index = PyNumber_Index(object);

    if (!index)
        return false;
    *ret = PyLong_AsUnsignedLongLong(index);
    Py_DECREF(index);
    if (PyErr_Occurred())
        return false;

    if (bits < 64 && *ret >> bits) {
        PyErr_Format(PyExc_OverflowError, "%llu has no place in %u bits", (unsigned long long)*ret, bits);
        return false;
    }

    return true;
}

static int to_u64(PyObject *object, void *to)
{
    return number(object, 64, to);
}

static int to_u32(PyObject *object, void *to)
{
    uint64_t value;
    if (!number(object, 32, &value))
        return 0;
    *(uint32_t *)to = (uint32_t)value;
    return 1;
}

static int to_time(PyObject *object, void *to)
{
    PyObject *index = PyNumber_Index(object);
    if (!index)
        return 0;

    *(int64_t *)to = PyLong_AsLongLong(index);
    Py_DECREF(index);
    return !PyErr_Occurred();
}

/* Seconds, or None, to a deadline. */
static int to_deadline(PyObject *object, void *to)
{
    *(uint64_t *)to = 0;
    if (object == Py_None)
        return 1;

    double ms = PyFloat_AsDouble(object) * 1000;
    if (PyErr_Occurred())
        return 0;
    if (!(ms >= 0)) {
        PyErr_SetString(PyExc_ValueError, "a timeout must be a number that is not negative");
        return 0;
    }

    if (ms > UINT32_MAX - 1)
        ms = UINT32_MAX - 1;
    *(uint64_t *)to = twinlog_deadline((uint32_t)ms + (ms > (uint32_t)ms));
    return 1;
}

/* A new reference to bytes, which are a copy of what others may change. */
static PyObject *bytes_of(PyObject *object)
{
    if (PyBytes_CheckExact(object))
        return Py_NewRef(object);
    if (PyBytes_Check(object) || PyByteArray_Check(object) || PyObject_TypeCheck(object, &PyMemoryView_Type))
        return PyBytes_FromObject(object);
    return PyErr_Format(PyExc_TypeError, "bytes, bytearray or memoryview expected, not %R",
                        (PyObject *)Py_TYPE(object));
}

static bool set_data(struct twinlog_entry *entry, PyObject *bytes)
{
    entry->data = PyBytes_AsString(bytes);
    entry->size = (size_t)PyBytes_Size(bytes);
    return entry->data;
}

static bool is_text_or_bytes(PyObject *object)
{
    if (PyUnicode_Check(object) || PyBytes_Check(object) || PyByteArray_Check(object))
        return true;
    return PyObject_TypeCheck(object, &PyMemoryView_Type);
}

/* Of an iterable of `what`, which bytes and text are by mistake: a new tuple. */
static PyObject *tuple_of(PyObject *all, const char *what)
{
    if (is_text_or_bytes(all))
        return PyErr_Format(PyExc_TypeError, "a sequence of %s expected, not %R", what,
                            (PyObject *)Py_TYPE(all));
    return PySequence_Tuple(all);
}

/* Records for one call of C: entries that point to the bytes of `kept`. */
struct batch {
    PyObject *kept; /* a list */
    uint32_t count;
    bool
        is_submitted; /* it is not submitted again: a signal may have come before the caller knew that it was */
    struct twinlog_entry entries[];
};

static void free_batch(struct batch *batch)
{
    Py_XDECREF(batch->kept);
    free(batch);
}

static bool set_type_and_tag(struct twinlog_entry *entry, PyObject *type, PyObject *tag)
{
    uint64_t value;

    if (type && number(type, 8, &value))
        entry->type = (uint8_t)value;
    if (tag && !PyErr_Occurred() && number(tag, 16, &value))
        entry->tag = (uint16_t)value;
    return !PyErr_Occurred();
}

static bool set_entry(struct state *state, struct batch *batch, struct twinlog_entry *entry, PyObject *record)
{
    PyObject *bytes, *data = record;

    *entry = (struct twinlog_entry){ 0 };
    if (PyObject_TypeCheck(record, (PyTypeObject *)state->entry)) {
        data = PyTuple_GetItem(record, 0);
        if (!set_type_and_tag(entry, PyTuple_GetItem(record, 1), PyTuple_GetItem(record, 2)) ||
            !to_time(PyTuple_GetItem(record, 3), &entry->time_ns))
            return false;
    }

    bytes = bytes_of(data);
    bool done = bytes && PyList_Append(batch->kept, bytes) == 0 && set_data(entry, bytes);
    Py_XDECREF(bytes);
    return done;
}

/* Of a sequence of records. */
static struct batch *batch_of(struct state *state, PyObject *records)
{
    struct batch *batch = NULL;
    PyObject *all = tuple_of(records, "records");
    Py_ssize_t count = 0;

    if (all && (count = PyTuple_Size(all)) > INT32_MAX)
        PyErr_SetString(PyExc_OverflowError, "too many records");
    else if (all && !(batch = malloc(sizeof(*batch) + (size_t)count * sizeof(batch->entries[0]))))
        PyErr_NoMemory();
    if (batch) {
        batch->kept = PyList_New(0);
        batch->count = (uint32_t)count;
        batch->is_submitted = false;
    }

    for (Py_ssize_t i = 0; batch && i < count; i++)
        if (!batch->kept || !set_entry(state, batch, &batch->entries[i], PyTuple_GetItem(all, i))) {
            free_batch(batch);
            batch = NULL;
        }

    Py_XDECREF(all);
    return batch;
}

/* Structures of C whose fields are numbers. A field of another type does not compile. */
struct field {
    const char *name;
    size_t offset;
    unsigned bits; /* 32 or 64 */
};
#define FIELD(type, name)                                                                                    \
    {                                                                                                        \
#name, offsetof(struct type, name),                                                                  \
            _Generic(((struct type *)NULL)->name, uint32_t : 32, uint64_t : 64)                              \
    }

/* By its type, and not by its bytes: which of a number's bytes are the first ones is a matter of the machine. */
static void set_field(const struct field *field, void *in, uint64_t value)
{
    void *place = (char *)in + field->offset;

    if (field->bits == 32)
        *(uint32_t *)place = (uint32_t)value;
    else
        *(uint64_t *)place = value;
}

static uint64_t value_of_field(const struct field *field, const void *in)
{
    const void *place = (const char *)in + field->offset;

    if (field->bits == 32)
        return *(const uint32_t *)place;
    return *(const uint64_t *)place;
}

static bool set_fields(const struct field *fields, void *to, PyObject *values)
{
    PyObject *name, *value;

    for (Py_ssize_t i = 0; PyDict_Next(values, &i, &name, &value);) {
        const struct field *field = fields;
        uint64_t in_c;
        while (field->name && PyUnicode_CompareWithASCIIString(name, field->name) != 0)
            field++;
        if (!field->name) {
            PyErr_Format(PyExc_TypeError, "there is no option %R", name);
            return false;
        }

        if (!number(value, field->bits, &in_c))
            return false;

        set_field(field, to, in_c);
    }

    return true;
}

/* ---- log --------------------------------------------------------------------------------------------- */

static const struct field option_fields[] = {
    FIELD(twinlog_options, mode),
    FIELD(twinlog_options, flags),
    FIELD(twinlog_options, segment_bytes),
    FIELD(twinlog_options, segment_records),
    FIELD(twinlog_options, segment_age_ms),
    FIELD(twinlog_options, buffer_bytes),
    FIELD(twinlog_options, max_record_bytes),
    FIELD(twinlog_options, mapped_bytes),
    FIELD(twinlog_options, keep_bytes),
    FIELD(twinlog_options, keep_records),
    FIELD(twinlog_options, keep_age_ms),
    FIELD(twinlog_options, spare_segments),
    FIELD(twinlog_options, prepare),
    FIELD(twinlog_options, io),
    FIELD(twinlog_options, lock_timeout_ms),
    FIELD(twinlog_options, flush_interval_ms),
    { NULL, 0, 0 },
};

/* By the lock of the interpreter. */
struct committer {
    PyObject_HEAD struct twinlog_committer *c; /* NULL: it is closed */
    int openings;                              /* of logs with it that are under way */
};

/* False: an exception is set. */
static bool check_committer(struct handle *h, PyObject *committer)
{
    if (committer == Py_None)
        return true;
    if (!PyObject_TypeCheck(committer, (PyTypeObject *)h->state->committer)) {
        PyErr_Format(PyExc_TypeError, "a Committer expected, not %R", (PyObject *)Py_TYPE(committer));
        return false;
    }

    if (!((struct committer *)committer)->c) {
        PyErr_SetString(PyExc_ValueError, "the committer is closed");
        return false;
    }

    return true;
}

/* open_log(log, path, options, committer, on_work): the last two may be None. */
static PyObject *open_log(PyObject *module, PyObject *args)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct handle *h;
    PyObject *path, *values, *with, *on_work, *encoded;
    int rc;

    if (!PyArg_ParseTuple(args, "OOOOO", &h, &path, &values, &with, &on_work) || !begin_open(h, module) ||
        !set_fields(option_fields, &options, values) || !PyUnicode_FSConverter(path, &encoded))
        return NULL;
    if (!check_committer(h, with)) { /* behind all that may run code of Python, which may close it */
        Py_DECREF(encoded);
        return NULL;
    }

    struct committer *committer = NULL;
    if (with != Py_None) {
        committer = (struct committer *)with;
        options.committer = committer->c;
        committer->openings++;
    }

    if (on_work != Py_None && !h->on_work)
        h->on_work = Py_NewRef(on_work);

    options.ret_report = &h->report;
    const char *dir = PyBytes_AsString(encoded);
    WITHOUT_LOCK(rc = twinlog_open(dir, &options, &h->log));
    if (committer)
        committer->openings--;
    Py_DECREF(encoded);
    return end_open(h, module, rc, path);
}

/* After a call that may have left something to commit to the loop. False: a signal has come, whose exception is set. */
static bool tell_of_work(struct handle *h)
{
    if (!h->on_work)
        return true;

    PyObject *result = PyObject_CallNoArgs(h->on_work);
    if (result) {
        Py_DECREF(result);
        return true;
    }
    if (!PyErr_ExceptionMatches(PyExc_MemoryError) && !PyErr_ExceptionMatches(PyExc_RuntimeError))
        return false;

    PyErr_WriteUnraisable(
        h->on_work); /* of memory, or a loop that is closed: it is committed with the next work */
    return true;
}

static PyObject *append_c(struct handle *h, const struct twinlog_entry *entries, uint32_t count,
                          struct twinlog_terms *terms)
{
    uint64_t lsn = 0;
    int rc;

    CALL(h, rc = twinlog_append_batch(h->log, entries, count, terms, &lsn));
    if (!tell_of_work(h))
        return NULL;
    if (rc < 0)
        return fail_with(h->state, rc, lsn, NULL, NULL);
    return PyLong_FromUnsignedLongLong(lsn);
}

/* False: an exception is set. `entry` NULL: only level and timeout have a meaning. */
static bool take_named(PyObject *names, PyObject *const *values, struct twinlog_entry *entry,
                       struct twinlog_terms *terms)
{
    Py_ssize_t count = 0;

    if (names)
        count = PyTuple_Size(names);

    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name = PyTuple_GetItem(names, i);
        bool done;
        if (PyUnicode_CompareWithASCIIString(name, "level") == 0) {
            done = to_u32(values[i], &terms->level);
        } else if (PyUnicode_CompareWithASCIIString(name, "timeout") == 0) {
            done = to_deadline(values[i], &terms->deadline_ns);
        } else if (entry && PyUnicode_CompareWithASCIIString(name, "type") == 0) {
            done = set_type_and_tag(entry, values[i], NULL);
        } else if (entry && PyUnicode_CompareWithASCIIString(name, "tag") == 0) {
            done = set_type_and_tag(entry, NULL, values[i]);
        } else if (entry && PyUnicode_CompareWithASCIIString(name, "time_ns") == 0) {
            done = to_time(values[i], &entry->time_ns);
        } else {
            PyErr_Format(PyExc_TypeError, "there is no argument %R", name);
            done = false;
        }

        if (!done)
            return false;
    }

    return true;
}

static PyObject *log_append(struct handle *h, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    struct twinlog_entry entry = { 0 };
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;

    if (count != 1)
        return PyErr_Format(PyExc_TypeError, "one record expected, not %zd", count);

    PyObject *result = NULL, *bytes = bytes_of(args[0]);
    if (bytes && take_named(names, args + count, &entry, &terms) && set_data(&entry, bytes))
        result = append_c(h, &entry, 1, &terms);
    Py_XDECREF(bytes);
    return result;
}

static PyObject *log_append_batch(struct handle *h, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;
    struct batch *batch;

    if (count != 1)
        return PyErr_Format(PyExc_TypeError, "one sequence of records expected, not %zd", count);
    if (!take_named(names, args + count, NULL, &terms) || !enter(h))
        return NULL;

    leave(h); /* the records may come from code that closes the log */
    batch = batch_of(h->state, args[0]);
    PyObject *result = NULL;
    if (batch)
        result = append_c(h, batch->entries, batch->count, &terms);
    if (batch)
        free_batch(batch);
    return result;
}

#define WAIT_TURN_MS 200

static PyObject *log_wait(struct handle *h, PyObject *args, PyObject *names)
{
    static char *list[] = { "lsn", "level", "timeout", NULL };
    uint64_t lsn, deadline = 0;
    uint32_t level = 0;
    int rc;

    if (!PyArg_ParseTupleAndKeywords(args, names, "O&|$O&O&", list, to_u64, &lsn, to_u32, &level, to_deadline,
                                     &deadline))
        return NULL;

    if (level > INT32_MAX)
        level = INT32_MAX;

    bool is_last;
    do { /* in short turns, so that Ctrl-C works */
        uint64_t turn = twinlog_deadline(WAIT_TURN_MS);
        is_last = deadline > 0 && deadline <= turn;
        if (is_last)
            turn = deadline;
        CALL(h, rc = twinlog_wait(h->log, lsn, level, turn));
        if (PyErr_CheckSignals() < 0)
            return NULL;
    } while (rc == -ETIMEDOUT && !is_last);
    return none_or_error(h, rc);
}

static PyObject *log_sync(struct handle *h, PyObject *none)
{
    int rc;
    (void)none;
    CALL(h, rc = twinlog_sync(h->log));
    return none_or_error(h, rc);
}

/* ---- one change of several things ---- */

#define MOST_EDITS 1024

/* The edits, and the references that keep what they point to. */
struct edits {
    struct twinlog_edit edits[MOST_EDITS];
    PyObject *values[MOST_EDITS]; /* NULL = none */
    PyObject *items[2]; /* of both mappings, which may make their names anew, or lose them meanwhile */
    uint32_t count;
};

static bool add_edit(struct edits *all, PyObject *name, PyObject *value, bool is_cursor)
{
    if (all->count == MOST_EDITS) {
        PyErr_SetString(PyExc_ValueError, "a change has at most 1024 edits");
        return false;
    }

    Py_ssize_t length;
    struct twinlog_edit *edit = &all->edits[all->count];
    *edit = (struct twinlog_edit){ .name = PyUnicode_AsUTF8AndSize(name, &length) };
    if (!edit->name)
        return false;
    if (strlen(edit->name) != (size_t)length) {
        PyErr_SetString(PyExc_ValueError, "embedded null character");
        return false;
    }

    all->values[all->count] = NULL;
    if (value == Py_None) {
        edit->kind = TWINLOG_EDIT_REMOVE_VALUE;
        if (is_cursor)
            edit->kind = TWINLOG_EDIT_REMOVE_CURSOR;
    } else if (is_cursor) {
        edit->kind = TWINLOG_EDIT_SET_CURSOR;
        if (!to_u64(value, &edit->lsn))
            return false;
    } else {
        struct twinlog_entry bytes = { 0 };
        PyObject *copy = bytes_of(value);
        if (!copy)
            return false;

        set_data(&bytes, copy);
        all->values[all->count] = copy;
        edit->kind = TWINLOG_EDIT_SET_VALUE;
        edit->data = bytes.data;
        edit->size = bytes.size;
    }

    all->count++;
    return true;
}

static bool add_edits(struct edits *all, PyObject *mapping, bool is_cursor)
{
    if (mapping == Py_None)
        return true;

    PyObject *items = PyMapping_Items(mapping);
    bool done = items != NULL;
    for (Py_ssize_t i = 0; done && i < PyList_Size(items); i++) {
        PyObject *name, *value;
        done = PyArg_ParseTuple(PyList_GetItem(items, i), "UO", &name, &value) &&
               add_edit(all, name, value, is_cursor);
    }

    all->items[is_cursor] = items;
    return done;
}

static PyObject *make_change(struct handle *h, const struct twinlog_change *change)
{
    struct twinlog_trim_result trimmed = TWINLOG_TRIM_RESULT_INIT;
    int rc;

    CALL(h, rc = twinlog_change(h->log, change, &trimmed));
    if (rc < 0)
        return fail(h, rc);
    return PyLong_FromUnsignedLongLong(trimmed.first_lsn);
}

static PyObject *log_change(struct handle *h, PyObject *args, PyObject *names)
{
    static char *list[] = { "meta",    "cursors", "trim_before_lsn", "trim_past_cursors", "durable_lsn",
                            "timeout", NULL };
    struct twinlog_change change = TWINLOG_CHANGE_INIT;
    PyObject *meta = Py_None, *cursors = Py_None, *result = NULL;
    int is_past_cursors = 0;

    if (!PyArg_ParseTupleAndKeywords(args, names, "|$OOO&pO&O&", list, &meta, &cursors, to_u64,
                                     &change.trim_before_lsn, &is_past_cursors, to_u64, &change.durable_lsn,
                                     to_deadline, &change.deadline_ns))
        return NULL;

    struct edits *all = PyMem_Calloc(1, sizeof(*all));
    if (!all)
        return PyErr_NoMemory();
    if (add_edits(all, meta, false) && add_edits(all, cursors, true)) {
        change.flags = 0;
        if (is_past_cursors)
            change.flags = TWINLOG_TRIM_PAST_CURSORS;
        change.edits = all->edits;
        change.edit_count = all->count;
        result = make_change(h, &change);
    }

    for (uint32_t i = 0; i < all->count; i++)
        Py_XDECREF(all->values[i]);
    Py_XDECREF(all->items[false]);
    Py_XDECREF(all->items[true]);
    PyMem_Free(all);
    return result;
}

static PyObject *log_set_flush_interval(struct handle *h, PyObject *number)
{
    uint32_t interval_ms;
    int rc;

    if (!to_u32(number, &interval_ms))
        return NULL;

    CALL(h, rc = twinlog_set_flush_interval(h->log, interval_ms));
    if (!tell_of_work(h))
        return NULL;
    return none_or_error(h, rc);
}

static PyObject *with_lsn(struct handle *h, PyObject *number, int (*call)(struct twinlog *, uint64_t))
{
    uint64_t lsn;
    int rc;

    if (!to_u64(number, &lsn))
        return NULL;

    CALL(h, rc = call(h->log, lsn));
    return none_or_error(h, rc);
}

static PyObject *log_truncate(struct handle *h, PyObject *lsn)
{
    return with_lsn(h, lsn, twinlog_truncate);
}

static PyObject *log_skip(struct handle *h, PyObject *lsn)
{
    return with_lsn(h, lsn, twinlog_skip);
}

static PyObject *log_reset(struct handle *h, PyObject *lsn)
{
    return with_lsn(h, lsn, twinlog_reset);
}

static uint64_t (*const watermarks[])(struct twinlog *) = {
    twinlog_first_lsn,
    twinlog_last_lsn,
    twinlog_written_lsn,
    twinlog_durable_lsn,
};

static PyObject *log_lsn(struct handle *h, void *which)
{
    uint64_t (*const *of)(struct twinlog *) = which;
    uint64_t lsn;
    CALL(h, lsn = (*of)(h->log));
    return PyLong_FromUnsignedLongLong(lsn);
}

#define STAT(name) FIELD(twinlog_stat, name)
static const struct field stat_fields[] = {
    STAT(io),
    STAT(is_direct),
    STAT(mode),
    STAT(epoch),
    STAT(segments),
    STAT(spare_segments),
    STAT(first_lsn),
    STAT(last_lsn),
    STAT(written_lsn),
    STAT(durable_lsn),
    STAT(file_bytes),
    STAT(appends),
    STAT(append_bytes),
    STAT(groups),
    STAT(group_bytes),
    STAT(written_bytes),
    STAT(rolls),
    STAT(roll_waits),
    STAT(full_failures),
    STAT(read_only_failures),
    STAT(limit_failures),
    STAT(poison_failures),
    STAT(other_failures),
    STAT(trim_failures),
    STAT(trimmed_segments),
    STAT(recycled_segments),
    STAT(syncs),
    STAT(requests),
    { NULL, 0, 0 },
};

static PyObject *log_stat(struct handle *h, PyObject *none)
{
    struct twinlog_stat stat = TWINLOG_STAT_INIT;
    int rc;

    (void)none;
    CALL(h, rc = twinlog_stat(h->log, &stat));
    if (rc < 0)
        return fail(h, rc);

    PyObject *all = Py_BuildValue("{siss}", "poison", stat.poison, "io_reason", stat.io_reason);
    for (const struct field *field = stat_fields; all && field->name; field++) {
        PyObject *value = PyLong_FromUnsignedLongLong(value_of_field(field, &stat));
        if (!value || PyDict_SetItemString(all, field->name, value) < 0)
            Py_CLEAR(all);
        Py_XDECREF(value);
    }

    return all;
}

static PyObject *log_trim(struct handle *h, PyObject *args, PyObject *names)
{
    static char *list[] = { "before_lsn", "keep_bytes", "keep_records", "before_time_ns", NULL };
    struct twinlog_trim_options options = TWINLOG_TRIM_OPTIONS_INIT;
    struct twinlog_trim_result trimmed = TWINLOG_TRIM_RESULT_INIT;
    int rc;

    if (!PyArg_ParseTupleAndKeywords(args, names, "|$O&O&O&O&", list, to_u64, &options.before_lsn, to_u64,
                                     &options.keep_bytes, to_u64, &options.keep_records, to_time,
                                     &options.before_time_ns))
        return NULL;

    CALL(h, rc = twinlog_trim(h->log, &options, &trimmed));
    if (rc < 0)
        return fail(h, rc);
    return PyLong_FromUnsignedLongLong(trimmed.first_lsn);
}

/* ---- cursors and values ------------------------------------------------------------------------------ */

static PyObject *log_set_cursor(struct handle *h, PyObject *args)
{
    const char *name;
    uint64_t lsn;
    int rc;

    if (!PyArg_ParseTuple(args, "sO&", &name, to_u64, &lsn))
        return NULL;

    CALL(h, rc = twinlog_cursor_set(h->log, name, lsn));
    return none_or_error(h, rc);
}

static PyObject *log_cursor(struct handle *h, PyObject *args)
{
    const char *name;
    uint64_t lsn;
    int rc;

    if (!PyArg_ParseTuple(args, "s", &name))
        return NULL;

    CALL(h, rc = twinlog_cursor_get(h->log, name, &lsn));
    if (rc == 0)
        return PyLong_FromUnsignedLongLong(lsn);
    return none_or_error(h, rc == -ENOENT ? 0 : rc);
}

static PyObject *with_name(struct handle *h, PyObject *args, int (*call)(struct twinlog *, const char *))
{
    const char *name;
    int rc;

    if (!PyArg_ParseTuple(args, "s", &name))
        return NULL;

    CALL(h, rc = call(h->log, name));
    return none_or_error(h, rc);
}

static PyObject *log_remove_cursor(struct handle *h, PyObject *args)
{
    return with_name(h, args, twinlog_cursor_remove);
}

static PyObject *log_remove_meta(struct handle *h, PyObject *args)
{
    return with_name(h, args, twinlog_meta_remove);
}

struct cursors {
    PyObject *all; /* a dictionary */
    PyThreadState *thread;
};

static int add_cursor(void *context, const char *name, uint64_t lsn)
{
    struct cursors *cursors = context;

    PyEval_RestoreThread(cursors->thread);
    PyObject *key = PyUnicode_DecodeUTF8(name, (Py_ssize_t)strlen(name), "surrogateescape");
    PyObject *value = PyLong_FromUnsignedLongLong(lsn);
    const bool is_added = key && value && PyDict_SetItem(cursors->all, key, value) == 0;
    Py_XDECREF(key);
    Py_XDECREF(value);
    cursors->thread = PyEval_SaveThread();
    if (is_added)
        return 0;
    return 1; /* which ends the list */
}

static PyObject *log_cursors(struct handle *h, PyObject *none)
{
    struct cursors cursors = { PyDict_New(), NULL };

    (void)none;
    if (!cursors.all || !enter(h)) {
        Py_XDECREF(cursors.all);
        return NULL;
    }

    cursors.thread = PyEval_SaveThread();
    int rc = twinlog_cursor_each(h->log, add_cursor, &cursors);
    PyEval_RestoreThread(cursors.thread);
    leave(h);
    if (rc == 0)
        return cursors.all;

    Py_DECREF(cursors.all);
    if (rc < 0)
        return fail(h, rc);
    return NULL;
}

static PyObject *log_set_meta(struct handle *h, PyObject *args)
{
    const char *name;
    PyObject *object, *bytes;
    struct twinlog_entry value = { 0 };
    int rc;

    if (!PyArg_ParseTuple(args, "sO", &name, &object))
        return NULL;
    bytes = bytes_of(object);
    if (!bytes)
        return NULL;

    set_data(&value, bytes);
    bool entered = enter(h);
    if (entered) {
        WITHOUT_LOCK(rc = twinlog_meta_set(h->log, name, value.data, value.size));
        leave(h);
    }

    Py_DECREF(bytes);
    if (entered)
        return none_or_error(h, rc);
    return NULL;
}

static PyObject *log_meta(struct handle *h, PyObject *args)
{
    const char *name;
    char value[TWINLOG_META_BYTES];
    size_t size;
    int rc;

    if (!PyArg_ParseTuple(args, "s", &name))
        return NULL;

    CALL(h, rc = twinlog_meta_get(h->log, name, value, sizeof(value), &size));
    if (rc == 0)
        return PyBytes_FromStringAndSize(value, (Py_ssize_t)size);
    return none_or_error(h, rc == -ENOENT ? 0 : rc);
}

/* ---- reading ----------------------------------------------------------------------------------------- */

static PyObject *data_of(const struct twinlog_record *c)
{
    return PyBytes_FromStringAndSize(c->size ? c->data : NULL, (Py_ssize_t)c->size);
}

/* A tuple of the type Record, without a call of its constructor. Takes the reference to `data`. */
static PyObject *record_of(struct state *state, const struct twinlog_record *c, PyObject *data)
{
    if (!data)
        return NULL;

    PyObject *record = state->alloc_record((PyTypeObject *)state->record, 5);
    if (!record) {
        Py_DECREF(data);
        return NULL;
    }

    PyTuple_SetItem(record, 0, PyLong_FromUnsignedLongLong(c->lsn));
    PyTuple_SetItem(record, 1, PyLong_FromLongLong(c->time_ns));
    PyTuple_SetItem(record, 2, data);
    PyTuple_SetItem(record, 3, PyLong_FromLong(c->type));
    PyTuple_SetItem(record, 4, PyLong_FromLong(c->tag));
    if (PyErr_Occurred())
        Py_CLEAR(record);
    return record;
}

static PyObject *log_read(struct handle *h, PyObject *number)
{
    char small[1024];
    struct twinlog_record c;
    PyObject *record = NULL;
    uint64_t lsn;
    int rc = -ENOBUFS;

    if (!to_u64(number, &lsn))
        return NULL;

    CALL(h, rc = twinlog_read(h->log, lsn, small, sizeof(small), &c));
    if (rc == 0)
        return record_of(h->state, &c, data_of(&c));

    while (rc == -ENOBUFS) {
        size_t room = c.size;
        char *large = malloc(room);
        if (!large)
            return PyErr_NoMemory();

        bool entered = enter(h);
        if (entered) {
            WITHOUT_LOCK(rc = twinlog_read(h->log, lsn, large, room, &c));
            leave(h);
            record = NULL;
            if (rc == 0)
                record = record_of(h->state, &c, data_of(&c));
        }

        free(large);
        if (!entered || rc == 0)
            return record;
    }

    return fail(h, rc);
}

/* open_reader(reader, log or None, path, from_lsn, to_lsn, flags) */
static PyObject *open_reader(PyObject *module, PyObject *args)
{
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct handle *h, *log;
    PyObject *path, *encoded;
    int rc;

    if (!PyArg_ParseTuple(args, "OOOO&O&I", &h, &log, &path, to_u64, &options.from_lsn, to_u64,
                          &options.to_lsn, &options.flags) ||
        !begin_open(h, module))
        return NULL;

    options.ret_report = &h->report;
    if ((PyObject *)log != Py_None) {
        if (!enter(log))
            return NULL;

        WITHOUT_LOCK(rc = twinlog_reader_attach(log->log, &options, &h->reader));
        if (rc >= 0)
            add_reader(log, h);
        leave(log); /* its close waits for the interpreter's lock, and then finds the reader */
        return end_open(h, module, rc, path);
    }

    if (!PyUnicode_FSConverter(path, &encoded))
        return NULL;

    const char *dir = PyBytes_AsString(encoded);
    WITHOUT_LOCK(rc = twinlog_reader_open(dir, &options, &h->reader));
    Py_DECREF(encoded);
    return end_open(h, module, rc, path);
}

/* open_consumer(consumer, path, name, flags) */
static PyObject *open_consumer(PyObject *module, PyObject *args)
{
    struct twinlog_consumer_options options = TWINLOG_CONSUMER_OPTIONS_INIT;
    struct handle *h;
    PyObject *path, *encoded;
    const char *name;
    int rc;

    if (!PyArg_ParseTuple(args, "OOsI", &h, &path, &name, &options.flags) || !begin_open(h, module) ||
        !PyUnicode_FSConverter(path, &encoded))
        return NULL;

    options.ret_report = &h->report;
    const char *dir = PyBytes_AsString(encoded);
    WITHOUT_LOCK(rc = twinlog_consumer_open(dir, name, &options, &h->consumer));
    Py_DECREF(encoded);
    h->reader = NULL;
    if (rc >= 0)
        h->reader = twinlog_consumer_reader(h->consumer);
    return end_open(h, module, rc, path);
}

static int next_record(struct handle *h, struct twinlog_record *c)
{
    if (h->consumer)
        return twinlog_consumer_next(h->consumer, c);
    return twinlog_reader_next(h->reader, c);
}

static int previous_record(struct handle *h, struct twinlog_record *c)
{
    return twinlog_reader_previous(h->reader, c);
}

/* A step the other way, as a seek would forget which records were returned: what is truncated of them is told. */
static void step_back(struct twinlog_reader *reader, bool is_next, uint64_t lsn)
{
    struct twinlog_record record;
    const int rc = is_next ? twinlog_reader_previous(reader, &record) : twinlog_reader_next(reader, &record);

    const bool is_told_later = rc == TWINLOG_ETRUNCATED || rc == TWINLOG_ETRIMMED;
    if (rc <= 0 && !is_told_later)
        twinlog_reader_seek(reader, is_next ? lsn : lsn + 1);
}

/* There was no memory for a record that C has returned, and an exception says so: the next call returns it again. */
static void put_back(struct handle *h, bool is_next, uint64_t lsn)
{
    const bool is_first_withheld = h->withheld_lsn == 0 || lsn < h->withheld_lsn;
    if (h->consumer && is_first_withheld)
        h->withheld_lsn = lsn;
    if (!enter(h))
        return;
    WITHOUT_LOCK(step_back(h->reader, is_next, lsn));
    leave(h);
}

/* NULL without an exception: there is none for now. Exceptions and tuples are made behind the call: the collector and
 * the handler of a signal, which run then, may close the handle, and a close waits for the call. */
static PyObject *step(struct handle *h, int (*move)(struct handle *, struct twinlog_record *))
{
    struct twinlog_record c;
    PyObject *data = NULL;
    int rc;

    if (!enter(h))
        return NULL;

    WITHOUT_LOCK(rc = move(h, &c));
    if (rc > 0)
        data = data_of(&c); /* the reader's until the next call */
    leave(h);
    if (rc > 0) {
        PyObject *record = record_of(h->state, &c, data);
        if (!record)
            put_back(h, move == next_record, c.lsn);
        else if (c.lsn == h->withheld_lsn) /* another thread may get the one behind it first */
            h->withheld_lsn = 0;
        return record;
    }
    if (rc == TWINLOG_ETRIMMED || rc == TWINLOG_ETRUNCATED)
        h->withheld_lsn = 0; /* the next one is another */
    if (rc < 0)
        return fail(h, rc);
    return NULL;
}

static PyObject *reader_iterate(PyObject *self)
{
    return step((struct handle *)self, next_record);
}

static PyObject *record_or_none(PyObject *record)
{
    if (record || PyErr_Occurred())
        return record;
    return Py_NewRef(Py_None);
}

static PyObject *reader_next(struct handle *h, PyObject *none)
{
    (void)none;
    return record_or_none(step(h, next_record));
}

static PyObject *reader_previous(struct handle *h, PyObject *none)
{
    (void)none;
    return record_or_none(step(h, previous_record));
}

static PyObject *reader_seek(struct handle *h, PyObject *number)
{
    uint64_t lsn;
    int rc;

    if (!to_u64(number, &lsn))
        return NULL;

    CALL(h, rc = twinlog_reader_seek(h->reader, lsn));
    return none_or_error(h, rc);
}

static PyObject *reader_seek_time(struct handle *h, PyObject *number)
{
    int64_t time_ns;
    int rc;

    if (!to_time(number, &time_ns))
        return NULL;

    CALL(h, rc = twinlog_reader_seek_time(h->reader, time_ns));
    return none_or_error(h, rc);
}

static PyObject *seek_to(struct handle *h, int (*seek)(struct twinlog_reader *))
{
    int rc;
    CALL(h, rc = seek(h->reader));
    return none_or_error(h, rc);
}

static PyObject *reader_seek_first(struct handle *h, PyObject *none)
{
    (void)none;
    return seek_to(h, twinlog_reader_seek_first);
}

static PyObject *reader_seek_end(struct handle *h, PyObject *none)
{
    (void)none;
    return seek_to(h, twinlog_reader_seek_end);
}

/* _wait(milliseconds) */
static PyObject *reader_wait(struct handle *h, PyObject *args)
{
    int timeout_ms, rc;

    if (!PyArg_ParseTuple(args, "i", &timeout_ms))
        return NULL;

    CALL(h, rc = twinlog_reader_wait(h->reader, timeout_ms));
    if (rc < 0)
        return fail(h, rc);
    return PyBool_FromLong(rc);
}

static PyObject *reader_fileno(struct handle *h, PyObject *none)
{
    int rc;

    (void)none;
    CALL(h, rc = twinlog_reader_fd(h->reader));
    if (rc < 0)
        return fail(h, rc);
    return PyLong_FromLong(rc);
}

static PyObject *consumer_commit(struct handle *h, PyObject *args, PyObject *names)
{
    static char *list[] = { "lsn", NULL };
    uint64_t lsn = 0;
    int rc;

    if (!PyArg_ParseTupleAndKeywords(args, names, "|O&", list, to_u64, &lsn))
        return NULL;

    const bool is_short = lsn == 0 && h->withheld_lsn > 0;
    if (is_short)
        lsn = h->withheld_lsn - 1;
    if (is_short && lsn == 0) /* there is nothing in front of it */
        return Py_NewRef(Py_None);

    CALL(h, rc = twinlog_consumer_commit(h->consumer, lsn));
    return none_or_error(h, rc);
}

/* ---- sink -------------------------------------------------------------------------------------------- */

static const struct field sink_fields[] = {
    FIELD(twinlog_sink_options, initial_bytes),     FIELD(twinlog_sink_options, growth_bytes),
    FIELD(twinlog_sink_options, max_bytes),         FIELD(twinlog_sink_options, keep_files),
    FIELD(twinlog_sink_options, flush_interval_ms), { NULL, 0, 0 },
};

/* open_sink(sink, path, shared, lines, mapped, drop_zeros, options) */
static PyObject *open_sink(PyObject *module, PyObject *args)
{
    struct twinlog_sink_options options = TWINLOG_SINK_OPTIONS_INIT;
    struct handle *h;
    PyObject *path, *values, *encoded;
    int is_shared, has_lines, is_mapped, drops_zeros, rc;

    if (!PyArg_ParseTuple(args, "OOppppO", &h, &path, &is_shared, &has_lines, &is_mapped, &drops_zeros,
                          &values) ||
        !begin_open(h, module) || !set_fields(sink_fields, &options, values) ||
        !PyUnicode_FSConverter(path, &encoded))
        return NULL;

    if (is_shared)
        options.flags |= TWINLOG_SINK_SHARED;
    if (has_lines)
        options.flags |= TWINLOG_SINK_LINES;
    if (is_mapped)
        options.flags |= TWINLOG_SINK_MAPPED;
    if (drops_zeros)
        options.flags |= TWINLOG_SINK_DROP_ZEROS;
    const char *file = PyBytes_AsString(encoded);
    WITHOUT_LOCK(rc = twinlog_sink_open(file, &options, &h->sink));
    Py_DECREF(encoded);
    return end_open(h, module, rc, path);
}

static PyObject *write_pieces(struct handle *h, const struct iovec *pieces, int count)
{
    uint64_t offset;
    int rc;

    CALL(h, rc = twinlog_sink_writev(h->sink, pieces, count, &offset));
    if (rc < 0)
        return fail(h, rc);
    return PyLong_FromUnsignedLongLong(offset);
}

/* `bytes` is kept until the call is over. */
static bool set_piece(struct iovec *piece, PyObject *bytes)
{
    piece->iov_base = PyBytes_AsString(bytes);
    piece->iov_len = (size_t)PyBytes_Size(bytes);
    return piece->iov_base;
}

static PyObject *sink_write(struct handle *h, PyObject *data)
{
    struct iovec piece;
    PyObject *result = NULL, *bytes = bytes_of(data);

    if (bytes && set_piece(&piece, bytes))
        result = write_pieces(h, &piece, 1);
    Py_XDECREF(bytes);
    return result;
}

/* Fills `kept`, a list, with bytes of the objects, and `pieces`. */
static bool take_pieces(PyObject *objects, PyObject *kept, struct iovec *pieces)
{
    Py_ssize_t count = PyTuple_Size(objects);

    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *bytes = bytes_of(PyTuple_GetItem(objects, i));
        bool done = bytes && PyList_Append(kept, bytes) == 0 && set_piece(&pieces[i], bytes);
        Py_XDECREF(bytes);
        if (!done)
            return false;
    }

    return true;
}

static PyObject *sink_writelines(struct handle *h, PyObject *lines)
{
    PyObject *result = NULL, *kept = NULL, *objects = tuple_of(lines, "bytes");
    struct iovec *pieces = NULL;

    Py_ssize_t count = 0;
    if (objects)
        count = PyTuple_Size(objects);
    if (objects && count > INT32_MAX)
        PyErr_SetString(PyExc_OverflowError, "too many pieces");
    else if (objects && !(pieces = calloc((size_t)count + 1, sizeof(*pieces))))
        PyErr_NoMemory();
    else if (objects && (kept = PyList_New(0)) && take_pieces(objects, kept, pieces))
        result = write_pieces(h, pieces, (int)count);
    free(pieces);
    Py_XDECREF(kept);
    Py_XDECREF(objects);
    return result;
}

static PyObject *sink_sync(struct handle *h, PyObject *none)
{
    int rc;
    (void)none;
    CALL(h, rc = twinlog_sink_sync(h->sink));
    return none_or_error(h, rc);
}

static PyObject *sink_reopen(struct handle *h, PyObject *none)
{
    int rc;

    (void)none;
    CALL(h, rc = twinlog_sink_reopen(h->sink));
    if (rc < 0)
        return fail(h, rc);
    return PyBool_FromLong(rc);
}

static PyObject *sink_rotate(struct handle *h, PyObject *number)
{
    int64_t made_before_ns;
    int rc;

    if (!to_time(number, &made_before_ns))
        return NULL;

    CALL(h, rc = twinlog_sink_rotate(h->sink, made_before_ns));
    if (rc < 0)
        return fail(h, rc);
    return PyBool_FromLong(rc);
}

/* _rotation_error(): a number; 0: none */
static PyObject *sink_rotation_error(struct handle *h, PyObject *none)
{
    int rc;
    (void)none;
    CALL(h, rc = twinlog_sink_rotation_error(h->sink));
    return PyLong_FromLong(rc);
}

/* _sync_error(): a number; 0: none */
static PyObject *sink_sync_error(struct handle *h, PyObject *none)
{
    int rc;
    (void)none;
    CALL(h, rc = twinlog_sink_sync_error(h->sink));
    return PyLong_FromLong(rc);
}

/* ---- requests ---------------------------------------------------------------------------------------- */

struct request {
    struct twinlog_request c;
    unsigned long long
        key; /* of the caller, for its future: the collector would not see one that is referred to here */
};

struct queue {
    PyObject_HEAD struct twinlog_queue *c;
};

/* open_queue(queue) */
static PyObject *open_queue(PyObject *module, PyObject *queue)
{
    int rc = twinlog_queue_open(&((struct queue *)queue)->c);
    if (rc < 0)
        return fail_with(PyModule_GetState(module), rc, 0, NULL, NULL);
    return Py_NewRef(Py_None);
}

static void end_batch(PyObject *capsule)
{
    free_batch(PyCapsule_GetPointer(capsule, NULL));
}

/* batch(records): for _submit() */
static PyObject *make_batch(PyObject *module, PyObject *records)
{
    struct batch *batch = batch_of(PyModule_GetState(module), records);
    if (batch)
        return PyCapsule_New(batch, NULL, end_batch);
    return NULL;
}

/* _submit(queue, key, batch, level, flags): False where it would have to wait, with TWINLOG_TRY. */
static PyObject *log_submit(struct handle *h, PyObject *args)
{
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;
    PyObject *capsule;
    unsigned long long key;
    struct queue *queue;
    struct batch *batch;
    struct request *request;
    int rc;

    if (!PyArg_ParseTuple(args, "OKOO&I", &queue, &key, &capsule, to_u32, &terms.level, &terms.flags) ||
        !(batch = PyCapsule_GetPointer(capsule, NULL)))
        return NULL;
    if (batch->is_submitted)
        return Py_NewRef(Py_True);
    if (!enter(h))
        return NULL;

    request = calloc(1, sizeof(*request));
    if (request) {
        request->c.queue = queue->c;
        request->c.context = request;
        request->key = key;
        WITHOUT_LOCK(rc = twinlog_submit(h->log, batch->entries, batch->count, &terms, &request->c));
    }

    leave(h);
    if (!request)
        return PyErr_NoMemory();
    if (rc < 0) {
        free(request);
    } else {
        batch->is_submitted = true;
        if (!tell_of_work(h))
            return NULL;
    }

    if (rc == -EAGAIN && terms.flags)
        return Py_NewRef(Py_False);
    if (rc < 0)
        return fail_with(h->state, rc, 0, NULL, NULL);
    return Py_NewRef(Py_True);
}

/* _readers(): those of this log that are open. */
static PyObject *log_readers(struct handle *h, PyObject *none)
{
    PyObject *all = PyList_New(0);

    (void)none;
    for (struct handle *reader = h->readers; all && reader; reader = reader->next)
        if (PyList_Append(all, (PyObject *)reader) < 0)
            Py_CLEAR(all);
    return all;
}

/* fileno(module) */
static PyObject *queue_fileno(struct queue *queue, PyObject *module)
{
    const int fd = twinlog_queue_fd(queue->c);
    if (fd < 0)
        return fail_with(PyModule_GetState(module), fd, 0, NULL, NULL);
    return PyLong_FromLong(fd);
}

/* fetch(all): adds (key, result, lsn) of some to this list. True: there may be more. No signal comes between. */
static PyObject *queue_fetch(struct queue *queue, PyObject *all)
{
    struct twinlog_request *done[256];
    int count = 0;

    if (queue->c)
        count = twinlog_queue_poll(queue->c, done, 256, 0);

    for (int i = 0; i < count; i++) {
        struct request *request = done[i]->context;
        PyObject *item = Py_BuildValue("(KiK)", request->key, request->c.result, request->c.first_lsn);
        free(request);
        if (!item || PyList_Append(all, item) < 0)
            PyErr_WriteUnraisable(NULL); /* of memory: that one waits for ever, the others do not */
        Py_XDECREF(item);
    }

    return PyBool_FromLong(count > 0);
}

/* close(): False while there are requests that are not completed and fetched. */
static PyObject *queue_close(struct queue *queue, PyObject *none)
{
    (void)none;
    if (queue->c && twinlog_queue_close(queue->c) == -EBUSY)
        return Py_NewRef(Py_False);
    queue->c = NULL;
    return Py_NewRef(Py_True);
}

static void plain_free(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

/* open_committer(committer, queue): with a queue whoever fetches from it does the work, with None a thread. */
static PyObject *open_committer(PyObject *module, PyObject *args)
{
    struct twinlog_committer_options options = TWINLOG_COMMITTER_OPTIONS_INIT;
    struct committer *committer;
    PyObject *queue;

    if (!PyArg_ParseTuple(args, "OO", &committer, &queue))
        return NULL;

    if (queue != Py_None)
        options.queue = ((struct queue *)queue)->c;
    int rc = twinlog_committer_open(&options, &committer->c);
    if (rc < 0)
        return fail_with(PyModule_GetState(module), rc, 0, NULL, NULL);
    return Py_NewRef(Py_None);
}

/* close(): False while a log is open with it, or is being opened. In a child process it is the parent's. */
static PyObject *committer_close(struct committer *committer, PyObject *none)
{
    (void)none;
    if (committer->openings > 0 || (committer->c && twinlog_committer_close(committer->c) == -EBUSY))
        return Py_NewRef(Py_False);
    committer->c = NULL;
    return Py_NewRef(Py_True);
}

/* ---- the module -------------------------------------------------------------------------------------- */

#define METHOD(name, function, flags, doc)                                                                   \
    {                                                                                                        \
        name, (PyCFunction)(void (*)(void))(function), flags, doc                                            \
    }

static PyMethodDef log_methods[] = {
    METHOD("__enter__", handle_enter, METH_NOARGS, NULL),
    METHOD("_close", close_handle, METH_O, NULL),
    METHOD("_readers", log_readers, METH_NOARGS, NULL),
    METHOD("_submit", log_submit, METH_VARARGS, NULL),
    METHOD("append", log_append, METH_FASTCALL | METH_KEYWORDS,
           "append($self, data, /, *, type=0, tag=0, time_ns=0, level=0, timeout=None)\n--\n\n"
           "Appends a record, and returns its LSN when it is on stable storage, or at that level."),
    METHOD("append_batch", log_append_batch, METH_FASTCALL | METH_KEYWORDS,
           "append_batch($self, records, /, *, level=0, timeout=None)\n--\n\n"
           "Appends all of them or none, also if the power fails. Returns the LSN of the first."),
    METHOD(
        "wait", log_wait, METH_VARARGS | METH_KEYWORDS,
        "wait($self, lsn, *, level=0, timeout=None)\n--\n\nReturns when every record up to `lsn` is at that level."),
    METHOD("sync", log_sync, METH_NOARGS,
           "sync($self)\n--\n\nReturns when everything accepted before is durable."),
    METHOD(
        "set_flush_interval", log_set_flush_interval, METH_O,
        "set_flush_interval($self, flush_interval_ms, /)\n--\n\nWhat was accepted and is not durable yet becomes "
        "durable within this time; 0 ends the flushes. The log does not keep it."),
    METHOD("stat", log_stat, METH_NOARGS, "stat($self)\n--\n\nThe fields of struct twinlog_stat."),
    METHOD(
        "read", log_read, METH_O,
        "read($self, lsn, /)\n--\n\nOne record. OSError with ERANGE: there is none yet; with ENODATA: it was lost; "
        "with ENOENT: it was given up; TrimmedError: removed."),
    METHOD(
        "trim", log_trim, METH_VARARGS | METH_KEYWORDS,
        "trim($self, *, before_lsn=0, keep_bytes=0, keep_records=0, before_time_ns=0)\n--\n\n"
        "Removes records from the head; returns the LSN of the oldest that is left. What a cursor needs stays."),
    METHOD(
        "change", log_change, METH_VARARGS | METH_KEYWORDS,
        "change($self, *, meta=None, cursors=None, trim_before_lsn=0, trim_past_cursors=False, durable_lsn=0, "
        "timeout=None)\n--\n\n"
        "Changes values, cursors and the head of the log in one step, which is durable on return: after a crash all of "
        "it has happened, or nothing. None as a value removes that name. Waits until `durable_lsn` is durable first. "
        "Returns the LSN of the oldest record that is left, 0 without a trim."),
    METHOD("truncate", log_truncate, METH_O,
           "truncate($self, last_lsn, /)\n--\n\nRemoves every record with a larger LSN, for good."),
    METHOD(
        "skip", log_skip, METH_O,
        "skip($self, next_lsn, /)\n--\n\nMakes this the LSN of the next record: fillers use up the LSNs before."),
    METHOD("reset", log_reset, METH_O,
           "reset($self, next_lsn, /)\n--\n\nRemoves every record; the next one gets this LSN."),
    METHOD(
        "set_cursor", log_set_cursor, METH_VARARGS,
        "set_cursor($self, name, lsn, /)\n--\n\nThe consumer `name` has finished with every record up to `lsn`: "
        "trims keep what comes after."),
    METHOD("cursor", log_cursor, METH_VARARGS, "cursor($self, name, /)\n--\n\nIts LSN, or None."),
    METHOD("cursors", log_cursors, METH_NOARGS, "cursors($self)\n--\n\nEvery cursor's LSN by its name."),
    METHOD("remove_cursor", log_remove_cursor, METH_VARARGS, "remove_cursor($self, name, /)\n--\n\n"),
    METHOD("set_meta", log_set_meta, METH_VARARGS,
           "set_meta($self, name, value, /)\n--\n\nKeeps a value of up to 4096 bytes with the log."),
    METHOD("meta", log_meta, METH_VARARGS, "meta($self, name, /)\n--\n\nThe value, or None."),
    METHOD("remove_meta", log_remove_meta, METH_VARARGS, "remove_meta($self, name, /)\n--\n\n"),
    { NULL, NULL, 0, NULL },
};

static PyGetSetDef log_attributes[] = {
    { "first_lsn", (getter)log_lsn, NULL, "The oldest kept; 0 when it is empty.", (void *)&watermarks[0] },
    { "last_lsn", (getter)log_lsn, NULL, "The newest accepted.", (void *)&watermarks[1] },
    { "written_lsn", (getter)log_lsn, NULL, "The newest that survives this process.",
      (void *)&watermarks[2] },
    { "durable_lsn", (getter)log_lsn, NULL, "The newest durable.", (void *)&watermarks[3] },
    { "_closed", (getter)handle_closed, NULL, NULL, NULL },
    { NULL, NULL, NULL, NULL, NULL },
};

static PyMethodDef reader_methods[] = {
    METHOD("__enter__", handle_enter, METH_NOARGS, NULL),
    METHOD("_close", close_handle, METH_O, NULL),
    METHOD("_wait", reader_wait, METH_VARARGS, NULL),
    METHOD("fileno", reader_fileno, METH_NOARGS,
           "fileno($self)\n--\n\nReadable when there is a record, for poll()."),
    METHOD(
        "next", reader_next, METH_NOARGS,
        "next($self)\n--\n\nThe next record; None if there is none for now. A consumer raises TrimmedError and "
        "TruncatedError once, and goes on. A MemoryError takes no record away."),
    METHOD("_previous", reader_previous, METH_NOARGS,
           "previous($self)\n--\n\nThe record in front; None if there is none."),
    METHOD("_seek", reader_seek, METH_O, "seek($self, lsn, /)\n--\n\nIn front of it."),
    METHOD("_seek_time", reader_seek_time, METH_O, "seek_time($self, time_ns, /)\n--\n\n"),
    METHOD("_seek_first", reader_seek_first, METH_NOARGS, "seek_first($self)\n--\n\n"),
    METHOD("_seek_end", reader_seek_end, METH_NOARGS, "seek_end($self)\n--\n\n"),
    METHOD(
        "_commit", consumer_commit, METH_VARARGS | METH_KEYWORDS,
        "commit($self, lsn=0)\n--\n\nIt has finished with every record up to `lsn`; 0: with all that next() has "
        "returned. Durable on return."),
    { NULL, NULL, 0, NULL },
};

static PyMethodDef sink_methods[] = {
    METHOD("__enter__", handle_enter, METH_NOARGS, NULL),
    METHOD("_close", close_handle, METH_O, NULL),
    METHOD("_rotation_error", sink_rotation_error, METH_NOARGS, NULL),
    METHOD("_sync_error", sink_sync_error, METH_NOARGS, NULL),
    METHOD(
        "write", sink_write, METH_O,
        "write($self, data, /)\n--\n\n"
        "Appends the bytes in one piece, and returns where in the file they begin. They survive the end of this "
        "process."),
    METHOD("writelines", sink_writelines, METH_O,
           "writelines($self, lines, /)\n--\n\n"
           "Appends all of them in one piece, as write() does. No newlines are added."),
    METHOD("sync", sink_sync, METH_NOARGS,
           "sync($self)\n--\n\nReturns when what any process had written is on stable storage."),
    METHOD(
        "reopen", sink_reopen, METH_NOARGS,
        "reopen($self)\n--\n\n"
        "Goes on in the file that the path names by now, or makes it. False: it is the same one. Without a call "
        "the sink looks five times a second."),
    METHOD(
        "rotate", sink_rotate, METH_O,
        "rotate($self, made_before_ns, /)\n--\n\n"
        "Begins a new file, if this one has bytes and was made before that time, in nanoseconds since 1970. True: "
        "the sink is in another file now."),
    { NULL, NULL, 0, NULL },
};

static PyGetSetDef sink_attributes[] = {
    { "closed", (getter)handle_closed, NULL, "It is closed, or the parent process has it.", NULL },
    { NULL, NULL, NULL, NULL, NULL },
};

static PyMethodDef queue_methods[] = {
    METHOD("_fileno", queue_fileno, METH_O, NULL),
    METHOD("fetch", queue_fetch, METH_O, NULL),
    METHOD("close", queue_close, METH_NOARGS, NULL),
    { NULL, NULL, 0, NULL },
};

static PyMethodDef committer_methods[] = {
    METHOD("_close", committer_close, METH_NOARGS, NULL),
    { NULL, NULL, 0, NULL },
};

static PyType_Slot log_slots[] = {
    { Py_tp_dealloc, (void *)handle_free },
    { Py_tp_methods, log_methods },
    { Py_tp_getset, log_attributes },
    { 0, NULL },
};
static PyType_Slot reader_slots[] = {
    { Py_tp_dealloc, (void *)handle_free },
    { Py_tp_methods, reader_methods },
    { Py_tp_iter, (void *)PyObject_SelfIter },
    { Py_tp_iternext, (void *)reader_iterate },
    { 0, NULL },
};
static PyType_Slot sink_slots[] = {
    { Py_tp_dealloc, (void *)handle_free },
    { Py_tp_methods, sink_methods },
    { Py_tp_getset, sink_attributes },
    { 0, NULL },
};
static PyType_Slot queue_slots[] = {
    { Py_tp_dealloc, (void *)plain_free },
    { Py_tp_methods, queue_methods },
    { 0, NULL },
};
static PyType_Slot committer_slots[] = {
    { Py_tp_dealloc, (void *)plain_free },
    { Py_tp_methods, committer_methods },
    { 0, NULL },
};

#define BASE (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE)
static PyType_Spec types[] = {
    { "twinlog._twinlog.Log", sizeof(struct handle), 0, BASE, log_slots },
    { "twinlog._twinlog.Reader", sizeof(struct handle), 0, BASE, reader_slots },
    { "twinlog._twinlog.Sink", sizeof(struct handle), 0, BASE, sink_slots },
    { "twinlog._twinlog.Queue", sizeof(struct queue), 0, BASE, queue_slots },
    { "twinlog._twinlog.Committer", sizeof(struct committer), 0, BASE, committer_slots },
};

/* use(Record, Entry, error) */
static PyObject *use(PyObject *module, PyObject *args)
{
    struct state *state = PyModule_GetState(module);
    if (!PyArg_ParseTuple(args, "OOO", &state->record, &state->entry, &state->error))
        return NULL;

    Py_INCREF(state->record);
    Py_INCREF(state->entry);
    Py_INCREF(state->error);
    state->alloc_record = (allocfunc)PyType_GetSlot((PyTypeObject *)state->record, Py_tp_alloc);
    return Py_NewRef(Py_None);
}

static PyObject *version(PyObject *module, PyObject *none)
{
    (void)module, (void)none;
    return PyUnicode_FromString(twinlog_version());
}

static PyObject *strerror_of(PyObject *module, PyObject *number)
{
    (void)module;
    long error = PyLong_AsLong(number);
    if (PyErr_Occurred())
        return NULL;
    return PyUnicode_FromString(twinlog_strerror((int)error));
}

static int fill(PyObject *module)
{
    static bool counts_forks; /* under the lock of the interpreters, which share it */

    if (!counts_forks && pthread_atfork(NULL, NULL, count_fork) != 0)
        return PyErr_NoMemory(), -1;

    counts_forks = true;
    struct state *state = PyModule_GetState(module);
    state->is_finalizing = PySys_GetObject("is_finalizing");
    if (!state->is_finalizing)
        return PyErr_Format(PyExc_RuntimeError, "sys.is_finalizing is missing"), -1;

    Py_INCREF(state->is_finalizing);
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        PyObject *type = PyType_FromModuleAndSpec(module, &types[i], NULL);
        int rc = -1;
        if (type)
            rc = PyModule_AddType(module, (PyTypeObject *)type);
        if (rc == 0 && types[i].slots == committer_slots)
            state->committer = Py_NewRef(type);
        Py_XDECREF(type);
        if (rc < 0)
            return -1;
    }

    return 0;
}

static int visit_state(PyObject *module, visitproc visit, void *arg)
{
    struct state *state = PyModule_GetState(module);

    Py_VISIT(state->record);
    Py_VISIT(state->entry);
    Py_VISIT(state->error);
    Py_VISIT(state->is_finalizing);
    Py_VISIT(state->committer);
    return 0;
}

static int clear_state(PyObject *module)
{
    struct state *state = PyModule_GetState(module);

    Py_CLEAR(state->record);
    Py_CLEAR(state->entry);
    Py_CLEAR(state->error);
    Py_CLEAR(state->is_finalizing);
    Py_CLEAR(state->committer);
    return 0;
}

static PyMethodDef functions[] = {
    METHOD("use", use, METH_VARARGS, NULL),
    METHOD("version", version, METH_NOARGS, NULL),
    METHOD("strerror", strerror_of, METH_O, NULL),
    METHOD("open_log", open_log, METH_VARARGS, NULL),
    METHOD("open_reader", open_reader, METH_VARARGS, NULL),
    METHOD("open_consumer", open_consumer, METH_VARARGS, NULL),
    METHOD("open_sink", open_sink, METH_VARARGS, NULL),
    METHOD("open_queue", open_queue, METH_O, NULL),
    METHOD("open_committer", open_committer, METH_VARARGS, NULL),
    METHOD("batch", make_batch, METH_O, NULL),
    { NULL, NULL, 0, NULL },
};

static PyModuleDef_Slot module_slots[] = { { Py_mod_exec, (void *)fill }, { 0, NULL } };

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "twinlog._twinlog",
    .m_size = sizeof(struct state),
    .m_methods = functions,
    .m_slots = module_slots,
    .m_traverse = visit_state,
    .m_clear = clear_state,
};

PyMODINIT_FUNC PyInit__twinlog(void)
{
    return PyModuleDef_Init(&definition);
}
