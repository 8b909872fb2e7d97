# SPDX-License-Identifier: Apache-2.0
# Draws what twinlog-bench --scenario p10 --csv wrote: messages a second to a plain file above, processor time below,
# for each contender a bar for 1, 2 and 4 threads, from light to dark.
#
#   gnuplot -e "csv='a.csv'; picture='a.svg'; origin='a machine'; programs='bench'" bench/sink.gp
#
# A picture that ends in .png is made as PNG.

if (strstrt(picture, '.png')) {
    set terminal pngcairo size 860,800 font "sans,12" background "white"
} else {
    set terminal svg size 860,800 font "Helvetica,Arial,sans-serif,14" background "white"
}
set encoding utf8
set output picture
set datafile separator ","
set datafile missing NaN

load programs . "/contenders.gp"

names = system("grep '^p10,' '" . csv . "' | cut -d, -f2 | awk '!seen[$0]++'")
position(name) = sum [i = 1:words(names)] (word(names, i) eq name ? i : 0)
array threads = [1, 2, 4]
array parts = [0.6, 0.3, 0]
colour(bar) = lighter(colour_of(strcol("contender")), parts[bar])

# Of one line of the file, if it is for these bars; of the larger file, where opening and closing count little.
figure(bar) = strcol("series") eq "p10" && strcol("size") eq "300000" && column("threads") == threads[bar] ? column(y) / unit : NaN
# Bars of lines are from the slowest round to the fastest; of processor time there is the median only.
end(bar, which) = figure(bar) * (panel == 1 ? column(which) / column("rate") : 1)
place(bar) = position(strcol("contender")) + (bar - 2) * 0.27
in_words(value) = sprintf(value < 10 ? "%.2g" : "%.0f", value)

set style fill solid noborder
set boxwidth 0.25
set grid ytics linetype 1 linewidth 1 linecolor rgb "#dcdcdc"
set border 3 linecolor "#606060"
set tics nomirror
set lmargin 10
set rmargin 2
set bmargin 3
set xrange [0.4 : words(names) + 0.6]
set yrange [0 : *]
set xtics () scale 0 font ",11"
unset key
do for [i = 1:words(names)] { set xtics add (label_of(word(names, i)) i) }

array figures = ["rate", "cpu_us_per_append"]
array units = [1e6, 1]
array headings = ["million messages of 1 KiB a second", "CPU seconds a million messages"]

set multiplot layout 2,1 title "bars from left to right: 1, 2 and 4 threads\n" . origin . "\n " font ",11"
do for [panel = 1:2] {
    y = figures[panel]; unit = units[panel]
    set ylabel headings[panel]
    plot for [bar = 1:3] csv using (place(bar)):(figure(bar)):(colour(bar)) with boxes linecolor rgb variable, \
        for [bar = 1:3] '' using (place(bar)):(end(bar, "slowest")):(0):(end(bar, "fastest") - end(bar, "slowest")) \
            with vectors nohead linecolor rgb "#404040", \
        for [bar = 1:3] '' using (place(bar)):(end(bar, "fastest")):(in_words(figure(bar))) \
            with labels offset 0,0.5 font ",10"
}
unset multiplot
