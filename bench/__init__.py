"""What `make bench` runs: Muster's goals as figures, side by side with its peers on the same machine.

    python3 -m bench ──► for each case of the table (cases): a process of its own (probe) ──► raw numbers
                                                                                                 │
                 build/bench.json ◄── with steal, machine (machine), versions ◄──────────────────┘
                        │
                        ├─► rows: figure, ratio, goal, reached ──► table on the terminal
                        └─► page, plot: the tables of docs/benchmarks.md, docs/benchmarks.svg

Figures are made from raw numbers in one place (clock), goals stand in one place (rows), and a case only measures. Standard library
only, but for the peers themselves. docs/benchmarks.md says what is clocked.
"""
