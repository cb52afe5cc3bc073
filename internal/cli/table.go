package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"muster/api"
	"muster/engine"
)

// row is a line of a table of sessions and workers.
func (a *app) row(kind string, w api.Worker) string {
	ip := w.IPAddress
	if ip == "" || ip == "unknown" {
		ip = "-"
	}
	return strings.Join([]string{
		orDash(w.ID), orDash(w.Name), kind, w.Status, strconv.FormatFloat(w.CPU, 'g', -1, 64), gigabytes(w.Memory), ip,
		a.age(w), orDash(reason(w)),
	}, "\t")
}

const rowHead = "ID\tNAME\tKIND\tSTATUS\tCPU\tMEMORY\tIP\tAGE\tREASON"

// table prints lines of cells that tabs part, in columns.
func table(out io.Writer, head string, rows []string) error {
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, line := range append([]string{head}, rows...) {
		fmt.Fprintln(tw, strings.TrimRight(clean(line), " "))
	}
	return tw.Flush()
}

// clean keeps names and reasons, which are others' text, from moving the cursor or breaking the table.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && (r < ' ' || r >= 0x7f && r < 0xa0) {
			return ' '
		}
		return r
	}, s)
}

func orDash(s string) string {
	if strings.TrimSpace(s) == "" {
		return "-"
	}
	return strings.ReplaceAll(s, "\t", " ")
}

func gigabytes(gb float64) string {
	if gb == 0 {
		return "-"
	}
	return strconv.FormatFloat(gb, 'g', -1, 64) + " GB"
}

// reason says why an engine waits, or how it ended.
func reason(w api.Worker) string {
	if w.RetriedAs != "" {
		next := w
		next.RetriedAs = ""
		return reason(next) + "; tried again as " + engine.ID(w.RetriedAs).Short()
	}
	if w.K8s.Message != nil && *w.K8s.Message != "" {
		return *w.K8s.Message
	}
	if w.Reason == string(engine.ReasonExitCode) && w.ExitCode != nil {
		return fmt.Sprintf("exit code %d", *w.ExitCode)
	}
	return w.Reason
}

// age is how long ago an engine was asked for, in the largest unit.
func (a *app) age(w api.Worker) string {
	if w.CreatedAt == nil {
		return "-"
	}
	at, err := time.Parse(time.RFC3339, *w.CreatedAt)
	if err != nil {
		return "-"
	}
	d := max(0, a.now().Sub(at))
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}

// printJSON prints the API's own answer.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.Out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
