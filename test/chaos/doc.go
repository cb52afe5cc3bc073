// Command chaos breaks things on purpose under a running Muster and proves that its promises hold (docs/reliability.md).
//
// Sessions with many chatty workers run under the release binary while faults are chosen from a seed: kills of servers,
// keepers, sessions and workers, stopped processes, a full disk, cut links. Each worker prints lines that are numbered and have
// a checksum, and notes in a file of its own, behind each line, that it was printed. The checker looks at what is on the
// machine only: files, /proc, control groups, the API's JSON. It shares no code with the product, nothing here imports any:
// a mistake would otherwise excuse itself.
//
//	plan (from the seed) ─► sessions and workers ─► logs on disk, API, exit codes ─┐
//	faults (from the seed) ─► what was done to whom ───────────────────────────────┴─► checker ─► violations, table
package main
