# SPDX-License-Identifier: Apache-2.0
# Draws what twinlog-bench --scenario p11 --csv wrote: microseconds a call by the size of the record, a line for each
# contender, with 1 process above and 4 below, bars from the slowest round to the fastest. Lines of dashes are those
# whose records are durable.
#
#   gnuplot -e "csv='a.csv'; picture='a.svg'; origin='a machine'" shared.gp
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

# In the order of the file. Colours that colour-blind eyes tell apart, and a shape for each. A contender that syncs has
# the colour and shape of the one of the same name that does not.
names = system("grep '^p11' '" . csv . "' | cut -d, -f2 | awk '!seen[$0]++'")
brothers = "sink twinlog write stdio"
colours = "#d55e00 #a02c2c #0072b2 #009e73"
shapes = "7 6 5 9"
brother(name) = strstrt(name, '-') ? name[1:strstrt(name, '-') - 1] : name
place(name) = int(sum [n = 1:words(brothers)] (word(brothers, n) eq brother(name) ? n : 0))
pick(list, name) = word(list, (place(name) + words(list) - 1) % words(list) + 1)
is_ours(name) = brother(name) eq "sink" || brother(name) eq "twinlog"
dashes(name) = brother(name) eq name ? 1 : 2
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
    if (panel == 1) { set key outside top center horizontal reverse Left } else { unset key }
    plot for [i = 1:words(names)] csv using "mean_bytes":(figure(i)):(end(i, "fastest")):(end(i, "slowest")) \
        with yerrorbars linecolor rgb pick(colours, word(names, i)) pointtype 0 notitle, \
        for [i = 1:words(names)] '' using "mean_bytes":(figure(i)) with linespoints \
        linecolor rgb pick(colours, word(names, i)) dashtype dashes(word(names, i)) \
        linewidth (is_ours(word(names, i)) ? 3.5 : 1.8) \
        pointtype int(pick(shapes, word(names, i))) pointsize 0.9 title word(names, i)
}
unset multiplot
