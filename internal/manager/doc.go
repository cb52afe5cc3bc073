// Package manager decides: it admits, launches, awaits, stops and ends sessions and their workers. The server asks it and
// the driver does what it says; it knows neither HTTP nor Linux.
//
// An engine's life here:
//
//	Launch: validate ─► refused (a description without id)
//	           │
//	        address reserved, request handed to the room ──► waits (FIFO over all sessions), admitted when room is free
//	                                                            │
//	        release (the reply is written) ─────────────────────┴─► Driver.Start ─► observations ─► final, room is free
//
// Ideas. The room (memory, GPUs, in hard mode CPU) is given out in the order of asking (but whoever waits for a session's
// end holds nobody up) and comes back on every way to a final status; what comes back is offered at once. A status moves
// forward only, whatever order observations come in. What is needed only to start engines is dropped when they are final.
// Whoever awaits is told by the change itself: nobody polls. Descriptions, environments and messages are pure functions.
//
// A worker that failed may be tried again (retry.go), and the work of one that has ended started again (restart.go): by other
// engines of the same batch, which are entered like those of a launch.
//
// Locks, always taken in this order: Manager.mu, session.mu, room.mu. Nothing under them blocks: calls of the driver and
// of the kernels are made without any. Each session has one goroutine (session.run), which starts its engines in batches.
//
// Only package app imports it. The server sees it through an interface of its own.
package manager
