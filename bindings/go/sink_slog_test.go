// SPDX-License-Identifier: Apache-2.0

//go:build go1.21

package twinlog

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A structured logger makes one Write of each line.
func TestSinkOfSlog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	sink := openSink(t, path, &SinkOptions{Lines: true})
	defer sink.Close()

	slog.New(slog.NewTextHandler(sink, nil)).Info("begins", "port", 8080)
	slog.New(slog.NewJSONHandler(sink, nil)).Warn("ends", "port", 8080)
	text, err := os.ReadFile(path)
	must(t, err)
	lines := strings.SplitAfter(string(text), "\n")
	if len(lines) != 3 || !strings.HasSuffix(lines[0], " level=INFO msg=begins port=8080\n") {
		t.Fatalf("%q", text)
	}
	var record struct {
		Level, Msg string
		Port       int
	}
	must(t, json.Unmarshal([]byte(lines[1]), &record))
	if record.Level != "WARN" || record.Msg != "ends" || record.Port != 8080 {
		t.Fatalf("%q", text)
	}
}
