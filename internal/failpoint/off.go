//go:build !failpoints

package failpoint

// Here is a point.
func Here(string) {}

// Env is what a child process needs to have the same points.
func Env() []string { return nil }
