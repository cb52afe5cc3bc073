// Package test runs whole programs: the built bin/muster, real interpreters, real processes, sockets and cgroups, and the
// documented examples. Nothing of ours is imported; what is checked is what a user sees, and what is left in /proc and
// /sys afterwards. As root everything runs on the root rung.
package test
