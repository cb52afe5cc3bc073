// Package console is the output log: what the engines of one session printed, on disk, in the order in which it happened.
//
// A console is a folder. Each engine has a log of records of its own ("<id>.log": stream, time, flags, payload of at
// most 64 kB, checksums), so that reading one engine's output does not read the others'; a file "order" of fixed-size
// entries (engine, offset, length) says how the records of all engines follow each other, written once, when it happens.
// There is one Writer for a folder (the keeper); any number of Readers, in any process, read from a Position and then
// follow: at the end Next says io.EOF, and a Bell tells when to ask again (Follow is that loop). A torn last record or
// entry, left by a crash, is recognised by its checksum and ends reading there until the writer has repaired it. Other damage
// is told where it is, and so is, by the order, what is not there any more; a session is read on behind it. An
// append is all or nothing: one that fails, on a full disk say, is simply made again. Frames are records on the wire.
//
// Everyone may import it; it looks at nothing of ours and uses the standard library only (the keeper carries it).
package console
