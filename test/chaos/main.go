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
	flag.IntVar(&o.chatty, "chatty", 0, "with -adopt: workers that print lines all the time (0: one in ten); the others are shells that have printed")
	flag.IntVar(&o.rounds, "rounds", 5, "with -adopt: how often the server is killed")
	out := flag.String("json", "", "with -adopt: a file for what was measured")
	long := flag.Bool("soak", false, "let sessions begin and end as long, and see that nothing grows")
	flag.IntVar(&o.row, "launches", 0, "launch so many workers one after the other, and -workers at once, and see that nothing of them is left")
	flag.Parse()
	o.length, o.log = time.Duration(*minutes*float64(time.Minute)), os.Stdout
	if o.seed == 0 {
		o.seed = time.Now().UnixNano() % 1e9
	}
	if o.chatty == 0 {
		o.chatty = o.workers / 10
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
	case o.row > 0:
		do = launches
	}
	r, err := do(o)
	if err == nil && *out != "" {
		err = r.write(*out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(2)
	}
	if len(r.violations) > 0 {
		os.Exit(1)
	}
}
