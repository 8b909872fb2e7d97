# SPDX-License-Identifier: Apache-2.0
# Draws what twinlog-bench --csv wrote: speed above, p99 latency below, a line for each contender.
#
#   gnuplot -e "csv='a.csv'; picture='a.svg'; against='threads'; origin='a machine'; programs='bench'" bench/plot.gp
#
# against = 'threads' (rate in appends) or 'sizes' (rate in MB). A picture that ends in .png is made
# as PNG. Bars are from the slowest round to the fastest.

load programs . "/contenders.gp"

if (against eq 'threads') {
    x = "threads"; speed = "rate"; x_label = "appending threads"; speed_label = "durable appends a second, 128 B"
} else {
    x = "mean_bytes"; speed = "mb_per_s"; x_label = "bytes a record"; speed_label = "durable MB a second, 16 threads"
}

if (strstrt(picture, '.png')) {
    set terminal pngcairo size 860,940 font "sans,12" background "white"
} else {
    set terminal svg size 860,940 font "Helvetica,Arial,sans-serif,14" background "white"
}
set encoding utf8
set micro
set output picture
set datafile separator ","
set datafile missing NaN

# In the order of the file.
names = system("tail -n +2 '" . csv . "' | cut -d, -f2 | awk '!seen[$0]++'")
colour(i) = colour_of(word(names, i))
shape(i) = shape_of(word(names, i))
width(i) = is_ours(word(names, i)) ? 3.5 : 1.8
dash(i) = is_reference(word(names, i)) ? 2 : 1
# p4 measures 256 threads once more.
is_again(i) = strcol("series") eq "p4" && column("threads") == 256
figure(i, y) = strcol("contender") eq word(names, i) && !is_again(i) ? column(y) : NaN
bar(i, y) = figure(i, speed) * column(y) / column("rate")

set logscale xy
set grid xtics ytics linetype 1 linewidth 1 linecolor rgb "#dcdcdc"
set border 3 linecolor "#606060"
set tics nomirror
set lmargin 14
set rmargin 4
stats csv using (column(x)) skip 0 nooutput name "X"
if (against eq 'threads') {
    set xtics ()
    do for [t in system("tail -n +2 '" . csv . "' | cut -d, -f3 | sort -nu | tr '\n' ' '")] {
        set xtics add (t t + 0)
    }
} else {
    set xtics ("64" 64, "256" 256, "1 KiB" 1024, "4 KiB" 4096, "16 KiB" 16384, "128 KiB" 131072, "1 MiB" 1048576)
}
set xrange [X_min * 0.85 : X_max * 1.18]
set ytics format (against eq 'threads' ? "%.0s%c" : "%g")

set multiplot layout 2,1 title origin . "\n " font ",11"

set key outside top center horizontal reverse Left samplen 2.5 spacing 1.3 width -9 maxcols 3
set ylabel speed_label offset -1,0
unset xlabel
plot for [i = 1:words(names)] csv using x:(figure(i, speed)):(bar(i, "slowest")):(bar(i, "fastest")) with yerrorbars \
    linecolor rgb colour(i) linewidth 1 pointtype 0 notitle, \
    for [i = 1:words(names)] csv using x:(figure(i, speed)) with linespoints \
    linecolor rgb colour(i) linewidth width(i) dashtype dash(i) pointtype shape(i) pointsize 0.9 \
    title title_of(word(names, i))

unset key
set ylabel "p99 latency"
set ytics format "%.0s %cs"
set xlabel x_label
plot for [i = 1:words(names)] csv using x:(figure(i, "p99_us") / 1e6) with linespoints \
    linecolor rgb colour(i) linewidth width(i) dashtype dash(i) pointtype shape(i) pointsize 0.9 notitle

unset multiplot
