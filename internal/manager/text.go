package manager

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// number writes x with at most two decimals that say something. Small ones keep two significant digits.
func number(x float64) string {
	prec := 2
	for y := math.Abs(x); y > 0 && y < 0.1 && prec < 9; y *= 10 {
		prec++
	}
	s := strconv.FormatFloat(x, 'f', prec, 64)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// gigabytes writes bytes as people ask for them: "0.5 GB".
func gigabytes(bytes int64) string { return number(float64(bytes)/1e9) + " GB" }

// freeGigabytes rounds down, so that what is free never looks like enough when it is not.
func freeGigabytes(bytes int64) string {
	return number(math.Floor(float64(max(bytes, 0))/1e7)/100) + " GB"
}

// size writes bytes in the unit that fits: "200 MB", "1.5 GB".
func size(bytes int64) string {
	switch {
	case bytes >= 1e9:
		return gigabytes(bytes)
	case bytes >= 1e6:
		return number(float64(bytes)/1e6) + " MB"
	default:
		return number(float64(bytes)/1e3) + " kB"
	}
}

// count writes a number and its noun: "1 worker", "3 workers".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func cores(x float64) string {
	if x == 1 {
		return "1 core"
	}
	return number(x) + " cores"
}

// isAre agrees the verb with a number.
func isAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}
