module twinlog

go 1.18
