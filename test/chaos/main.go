package main

import (
	"flag"
	"fmt"
	"os"
	"time"
)

func main() {
	var o options
	minutes := flag.Float64("minutes", 10, "how long faults are made")
	flag.Int64Var(&o.seed, "seed", 0, "what everything is chosen by (0: by the clock; it is printed)")
	flag.IntVar(&o.workers, "workers", 200, "workers that run at any time")
	flag.IntVar(&o.faults, "faults", 0, "how many faults (0: 110 a minute)")
	flag.StringVar(&o.binary, "binary", "bin/muster", "the program under test")
	flag.StringVar(&o.only, "only", "", "only these faults, separated by commas")
	flag.BoolVar(&o.keep, "keep", false, "leave the files where they are")
	many := flag.Bool("adopt", false, "measure how long a server takes to adopt the workers of one that was killed, and make no other faults")
	long := flag.Bool("soak", false, "let sessions begin and end as long, and see that nothing grows")
	flag.Parse()
	o.length, o.log = time.Duration(*minutes*float64(time.Minute)), os.Stdout
	if o.seed == 0 {
		o.seed = time.Now().UnixNano() % 1e9
	}
	if o.faults == 0 {
		o.faults = int(*minutes * 110)
	}
	do := run
	switch {
	case *many:
		do = adopt
	case *long:
		do = soak
	}
	r, err := do(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(2)
	}
	if len(r.violations) > 0 {
		os.Exit(1)
	}
}
