# SPDX-License-Identifier: Apache-2.0
# Draws what twinlog-bench --scenario p8 --csv wrote: how fast logs are read from end to end, small records above,
# large ones below, two bars each: with the files in the page cache, and on the disk only.
#
#   gnuplot -e "csv='a.csv'; picture='a.svg'; origin='a machine'; programs='bench'" bench/replay.gp
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

# In the order of the file, the references last.
names = system("grep '^p8-' '" . csv . "' | cut -d, -f2 | awk '!seen[$0]++' | " . \
               "awk '/^(bare|disk-)/ { last = last $0 \"\\n\"; next } { print } END { printf last }'")
position(name) = sum [i = 1:words(names)] (word(names, i) eq name ? i : 0)
hot(name) = colour_of(name)
cold(name) = lighter(colour_of(name), 0.5)

set style fill solid noborder
set boxwidth 0.4
set grid ytics linetype 1 linewidth 1 linecolor rgb "#dcdcdc"
set border 3 linecolor "#606060"
set tics nomirror
set lmargin 10
set rmargin 2
set bmargin 4
set xrange [0.4 : words(names) + 0.6]
set yrange [0 : *]
set xtics () scale 0
do for [i = 1:words(names)] { set xtics add (label_of(word(names, i)) i) }
unset key

# Of one line of the file, if it is for this panel and these bars.
figure(series) = strcol("series") eq series && strcol("size") eq size ? column(y) / unit : NaN
end(series, which) = figure(series) * column(which) / column("rate") # from the slowest round to the fastest
in_words(value) = sprintf(value < 10 ? "%.2g" : "%.0f", value)

array sizes[2] = ["128", "4K"]
array figures[2] = ["rate", "mb_per_s"]
array units[2] = [1e6, 1e3]
array headings[2] = ["million records of 128 bytes a second", "GB of 4 KiB records a second"]

set multiplot layout 2,1 title "left: files in the page cache; right, lighter: on the disk only; grey: references\n" . origin . "\n " font ",11"
do for [panel = 1:2] {
    size = sizes[panel]; y = figures[panel]; unit = units[panel]
    set ylabel headings[panel]
    plot csv using (position(strcol("contender")) - 0.2):(figure("p8-hot")):(hot(strcol("contender"))) \
            with boxes linecolor rgb variable, \
        '' using (position(strcol("contender")) + 0.2):(figure("p8-cold")):(cold(strcol("contender"))) \
            with boxes linecolor rgb variable, \
        for [series in "p8-hot p8-cold"] '' using (position(strcol("contender")) + (series eq "p8-hot" ? -0.2 : 0.2)) \
            :(end(series, "slowest")):(0):(end(series, "fastest") - end(series, "slowest")) \
            with vectors nohead linecolor rgb "#404040", \
        '' using (position(strcol("contender")) - 0.2):(end("p8-hot", "fastest")):(in_words(figure("p8-hot"))) \
            with labels offset 0,0.6, \
        '' using (position(strcol("contender")) + 0.2):(end("p8-cold", "fastest")):(in_words(figure("p8-cold"))) \
            with labels offset 0,0.6
}
unset multiplot
