package manager

import (
	"cmp"
	"fmt"
	"hash/crc32"
	"net/netip"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"muster/api"
	"muster/engine"
)

// site is what all descriptions of a session have in common.
type site struct {
	domain  string
	base    string // scheme and domain
	project api.Project
	owner   api.Person // of the project
	person  api.Person // who runs it
}

func (m *Manager) newSite(s *session) site {
	t := site{domain: m.cfg.Web}
	if t.domain == "" {
		t.domain = strings.TrimPrefix(s.url, "http://")
	}
	t.base = "http://" + t.domain
	user := m.accountOf(s).Name
	t.person = t.personOf(1, user)
	t.owner = t.person
	if s.settings.Owner != "" && s.settings.Owner != user {
		t.owner = t.personOf(2, s.settings.Owner)
	}
	name := slug(cmp.Or(s.settings.Name, filepath.Base(s.project)))
	full := t.owner.Username + "/" + name
	t.project = api.Project{
		// The same folder has the same number, also after a restart.
		ID: int(crc32.ChecksumIEEE([]byte(s.project)) & 0x7fffffff), Name: name, Slug: full,
		URL: t.base + api.Original + "/projects/" + full, HTMLURL: t.base + "/" + full,
	}
	return t
}

func (s site) personOf(id int, name string) api.Person {
	user := slug(name)
	return api.Person{ID: id, Username: user, Name: name, URL: s.base + api.Original + "/users/" + user, HTMLURL: s.base + "/" + user}
}

// dashboardURL is where the original's API tells of an engine.
func (s site) dashboardURL(id engine.ID) string { return s.project.URL + "/dashboards/" + string(id) }

// slug keeps what may stand in a path of a URL.
func slug(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, s)
	if s = strings.Trim(s, "-"); s == "" {
		return "project"
	}
	return s
}

// view is everything that a description depends on.
type view struct {
	ID       engine.ID
	Master   engine.ID
	Batch    *batch
	Addr     netip.Addr
	Status   engine.Status
	Created  time.Time
	Starting time.Time
	Running  time.Time
	Stopping time.Time
	Finished time.Time
	Exit     *engine.Exit // nil while it lives
	Waits    string       // what it waits for; "": nothing
	Workers  int          // launched by it
	lineage
}

// describe makes the description of an engine, with all keys that scripts of the original know.
func describe(v view, s site, now time.Time) api.Worker {
	id := string(v.ID)
	d := blank(v.Batch, s)
	d.ID, d.Status, d.MasterID, d.Workers = id, string(v.Status), string(v.Master), v.Workers
	d.AppURL = "http://" + id + "." + s.domain + "/"
	d.URL = s.dashboardURL(v.ID)
	d.HTMLURL = s.project.HTMLURL + "/engines/" + id
	if v.Addr.IsValid() {
		d.IPAddress = v.Addr.String()
	}
	d.CreatedAt, d.SchedulingAt = stamp(v.Created), stamp(v.Created)
	d.StartingAt, d.RunningAt, d.StoppingAt, d.FinishedAt = stamp(v.Starting), stamp(v.Running), stamp(v.Stopping), stamp(v.Finished)
	if !v.Running.IsZero() {
		until := now
		if !v.Finished.IsZero() {
			until = v.Finished
		}
		d.Duration = max(0, int64(until.Sub(v.Running)/time.Second))
	}
	describeLineage(&d, v)
	if v.Waits != "" {
		reason := "Unschedulable"
		d.K8s.Reason, d.K8s.Message = &reason, &v.Waits
	}
	if v.Exit != nil {
		describeExit(&d, *v.Exit, !v.Running.IsZero())
	}
	return d
}

// blank is the description of an engine of which nothing happened yet.
func blank(b *batch, s site) api.Worker {
	d := api.Worker{
		Name: b.name, IPAddress: "unknown", CPU: b.cpu, Memory: b.memory, GPUs: b.gpus, Kernel: string(b.kernel),
		Batch: b.role == engine.RoleWorker, ClusterID: 1, Project: s.project, Owner: s.owner, Creator: s.person,
		Group: b.group, Retries: b.retries, TimeLimit: b.timeLimit.Seconds(),
	}
	return d
}

func describeExit(d *api.Worker, e engine.Exit, ran bool) {
	d.Reason = string(e.Reason)
	d.OOMKilled = e.Reason == engine.ReasonOutOfMemory
	code := e.Code
	if d.OOMKilled {
		code = 137 // as scripts of the original know it, whichever process of the engine was killed
	}
	if ran || code != 0 {
		d.ExitCode, d.K8s.ExitCode = &code, &code
	}
	reason := map[engine.Reason]string{
		engine.ReasonSucceeded: "Completed", engine.ReasonOutOfMemory: "OOMKilled",
		engine.ReasonStopped: "Stopped", engine.ReasonSessionEnded: "Stopped",
		engine.ReasonTimeLimit: "DeadlineExceeded",
	}[e.Reason]
	if reason == "" {
		reason = "Error"
	}
	d.K8s.Reason = &reason
	if m := exitMessage(e); m != "" {
		d.K8s.Message = &m
	}
	d.Evidence = &api.Evidence{
		Signal: e.Signal, By: e.By, Step: e.Step, MemoryLimitBytes: e.MemoryLimitBytes, MemoryPeakBytes: e.MemoryPeakBytes,
		CPUSeconds: float64(e.CPUNanos) / 1e9,
	}
	if e.Reason == engine.ReasonTimeLimit {
		d.Evidence.TimeLimitSeconds = float64(e.TimeLimitNanos) / 1e9
	}
	if *d.Evidence == (api.Evidence{}) {
		d.Evidence = nil
	}
}

// exitMessage is the driver's sentence, which also stands in the console, else one made here. Success needs none.
func exitMessage(e engine.Exit) string {
	if e.Message != "" {
		return e.Message
	}
	by := ""
	if e.By != "" {
		by = " by " + e.By
	}
	switch e.Reason {
	case engine.ReasonSucceeded:
		return ""
	case engine.ReasonExitCode:
		return fmt.Sprintf("exit code %d", e.Code)
	case engine.ReasonSignal:
		return fmt.Sprintf("ended by signal %d (%s)", e.Signal, syscall.Signal(e.Signal))
	case engine.ReasonOutOfMemory:
		s := "out of memory"
		if e.MemoryLimitBytes > 0 {
			s += ": limit " + size(e.MemoryLimitBytes)
		}
		if e.MemoryPeakBytes > 0 {
			s += ", peak " + size(e.MemoryPeakBytes)
		}
		return s
	case engine.ReasonStopped:
		return "stopped" + by
	case engine.ReasonLaunchFailed:
		return "launch failed at step " + e.Step
	default:
		return string(e.Reason) + by
	}
}

// stamp is a time as scripts of the original parse it.
func stamp(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	s := t.UTC().Format("2006-01-02T15:04:05.000Z")
	return &s
}

// refused is the description of a worker that was not accepted: without id, as in the original.
func refused(b *batch, s site, master engine.ID, message string, now time.Time) api.Worker {
	d := blank(b, s)
	d.Status = string(engine.Failed)
	d.MasterID = string(master)
	d.CreatedAt = stamp(now)
	d.Message, d.K8sMessage = message, message
	d.EngineID = string(engine.NewID())
	reason := "Refused"
	d.K8s.Reason, d.K8s.Message = &reason, &message
	return d
}

// unknown is what await says of an id that is no worker's.
func unknown(id string, s site, master engine.ID) api.Worker {
	d := blank(&batch{role: engine.RoleWorker}, s)
	d.ID, d.Status, d.MasterID = id, string(engine.Unknown), string(master)
	reason, message := "NotFound", "no such worker in this session"
	d.K8s.Reason, d.K8s.Message = &reason, &message
	return d
}

// describe makes fresh descriptions of engines of one session or of several.
func (m *Manager) describe(ws []*worker) []api.Worker {
	now, standing := m.now(), m.room.standing()
	list := make([]api.Worker, 0, len(ws))
	for i := 0; i < len(ws); {
		s := ws[i].session
		s.mu.Lock()
		for ; i < len(ws) && ws[i].session == s; i++ {
			list = append(list, describe(ws[i].viewLocked(standing), s.site, now))
		}
		s.mu.Unlock()
	}
	return list
}

func (w *worker) viewLocked(st standing) view {
	v := view{
		ID: w.id, Master: w.session.id, Batch: w.batch, Addr: w.addr, Status: w.status, Created: w.created,
		Starting: w.starting, Running: w.running, Stopping: w.stopping, Finished: w.finished, Exit: w.exit, lineage: w.lineage,
	}
	switch {
	case w.admitted && w.session.heldLocked(w):
		v.Waits = heldText
	case w.status != engine.Scheduling || w.admitted:
	case w.paused:
		v.Waits = w.pauseText()
	default:
		v.Waits = waitsFor(&w.ticket, st)
	}
	if w == w.session.main {
		v.Workers = len(w.session.workers)
	}
	return v
}

// describe makes the description of the session.
func (s *session) describe() api.Session {
	st := s.m.room.standing()
	s.mu.Lock()
	defer s.mu.Unlock()
	d := api.Session{
		ID: string(s.id), Name: s.name, Kind: s.kind, Project: s.project, User: s.user().Name, CreatedAt: s.created, Ended: s.ended,
		Engine: describe(s.main.viewLocked(st), s.site, s.m.now()), Workers: len(s.workers),
	}
	for _, w := range s.workers {
		if !w.status.Final() {
			d.Live++
		}
	}
	return d
}
