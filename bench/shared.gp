# SPDX-License-Identifier: Apache-2.0
# Draws what twinlog-bench --scenario p11 --csv wrote: microseconds a call by the size of the record, a line for each
# contender, with 1 process above and 4 below, bars from the slowest round to the fastest. Lines of dashes are those
# whose records are durable.
#
#   gnuplot -e "csv='a.csv'; picture='a.svg'; origin='a machine'; programs='bench'" bench/shared.gp
#
# A picture that ends in .png is made as PNG.

if (strstrt(picture, '.png')) {
    set terminal pngcairo size 860,940 font "sans,12" background "white"
} else {
    set terminal svg size 860,940 font "Helvetica,Arial,sans-serif,14" background "white"
}
set encoding utf8
set output picture
set datafile separator ","
set datafile missing NaN

load programs . "/contenders.gp"

# In the order of the file. A contender that syncs has the colour and shape of the one that does not.
names = system("grep '^p11' '" . csv . "' | cut -d, -f2 | awk '!seen[$0]++'")
is_durable(name) = name eq "twinlog-durable" || name eq "write-fdatasync"
dash(i) = is_durable(word(names, i)) ? 2 : 1
width(i) = is_ours(word(names, i)) ? 3.5 : 1.8
figure(i) = strcol("contender") eq word(names, i) && column("threads") == processes ? column("mean_us") : NaN

end(i, which) = figure(i) * column("rate") / column(which)

set logscale xy
set grid xtics ytics linetype 1 linewidth 1 linecolor rgb "#dcdcdc"
set border 3 linecolor "#606060"
set tics nomirror
set lmargin 12
set rmargin 4
set xrange [0.8 : 1400000]
set xtics ("1" 1, "128" 128, "1 KiB" 1024, "4095" 4095, "1 MiB" 1048576)
set ytics format "%g"
set xlabel "bytes a record"

array counts = [1, 4]
set multiplot layout 2,1 title origin . "\n " font ",11"
do for [panel = 1:2] {
    processes = counts[panel]
    set ylabel sprintf("µs a call, %d process%s", processes, processes == 1 ? "" : "es")
    if (panel == 1) { set key outside top center horizontal reverse Left width -3 maxcols 3 } else { unset key }
    plot for [i = 1:words(names)] csv using "mean_bytes":(figure(i)):(end(i, "fastest")):(end(i, "slowest")) \
        with yerrorbars linecolor rgb colour_of(word(names, i)) pointtype 0 notitle, \
        for [i = 1:words(names)] '' using "mean_bytes":(figure(i)) with linespoints \
        linecolor rgb colour_of(word(names, i)) dashtype dash(i) linewidth width(i) \
        pointtype shape_of(word(names, i)) pointsize 0.9 title title_of(word(names, i))
}
unset multiplot
