// SPDX-License-Identifier: Apache-2.0

// Goroutines append durably; then the program reads everything back.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"sync"

	twinlog "example.org/twinlog/bindings/go"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: example DIR")
	}
	journal, err := twinlog.Open(os.Args[1], nil)
	check(err)
	var workers sync.WaitGroup
	for worker := 0; worker < 100; worker++ {
		workers.Add(1)
		go func(worker int) {
			defer workers.Done()
			for i := 0; i < 10; i++ {
				_, err := journal.Append(context.Background(), []byte(fmt.Sprintf("order %d of worker %d", i, worker)))
				check(err)
				// from here on the order survives a power cut: confirm it to the customer
			}
		}(worker)
	}
	workers.Wait()
	check(journal.Close())

	reader, err := twinlog.OpenReader(os.Args[1], 0)
	check(err)
	defer reader.Close()
	count := 0
	for {
		_, err := reader.Next()
		if err == io.EOF {
			break
		}
		check(err)
		count++
	}
	fmt.Println(count, "orders")
	if count != 1000 {
		os.Exit(1)
	}
}
