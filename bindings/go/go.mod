module example.org/twinlog/bindings/go

go 1.18
