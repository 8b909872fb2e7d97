module example.org/twinlog/bindings/go/raft/bench

go 1.18

require (
	example.org/twinlog/bindings/go/raft v0.1.0
	github.com/hashicorp/raft v1.5.0
)

replace (
	example.org/twinlog/bindings/go => ../../
	example.org/twinlog/bindings/go/raft => ../
)
