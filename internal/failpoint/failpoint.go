// Package failpoint lets tests kill a process at a named point of what it does, or hold it up there. In a program that is built
// without the tag "failpoints" a point is nothing, not even its name. What creates, launches, stops, ends and records engines has
// points; the manager, the store, the local driver, the keeper and the init import it. Standard library only.
//
// With the tag, MUSTER_FAILPOINTS="start: before driver=kill@2" kills the process with SIGKILL when it comes there for the second
// time, "…=sleep:100ms" lets it sleep each time; several are separated by commas. Errors at the steps of a start are the driver's
// and the store's own tests' to inject.
package failpoint
