package manager

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"muster/engine"
	"muster/internal/driver"
	"muster/internal/project"
)

// forgetOld forgets the oldest sessions that have ended, so that a server which runs for months does not grow with all it
// ever did. Their consoles stay on disk, but for an ephemeral manager's.
func (m *Manager) forgetOld() {
	var old []*session
	ended, workers := 0, 0
	for _, s := range slices.Backward(m.all()) {
		s.mu.Lock()
		over, n := s.ended, len(s.workers)
		s.mu.Unlock()
		if !over {
			continue
		}
		if ended, workers = ended+1, workers+n; ended > maxEnded || ended > 1 && workers > maxEndedWorkers {
			old = append(old, s)
		}
	}
	if len(old) == 0 {
		return
	}
	m.drop(func(s *session) bool { return slices.Contains(old, s) })
	for _, s := range old {
		m.unrecord(s.id)
	}
	if m.cfg.Ephemeral {
		for _, s := range old {
			m.logged("remove the folder of session "+string(s.id), os.RemoveAll(s.dir))
		}
	}
}

// drop forgets sessions that have ended.
func (m *Manager) drop(which func(*session) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.order = slices.DeleteFunc(m.order, func(s *session) bool {
		if !which(s) {
			return false
		}
		delete(m.sessions, s.id)
		return true
	})
}

// markName is the file in a session's folder that says which project it is of: consoles outlive the server's memory. It is
// written when the session's place is open, so that the folder of one that is just being created is nobody's.
const markName = "project"

func (s *session) mark() error {
	if s.m.cfg.Ephemeral {
		return nil
	}
	return os.WriteFile(filepath.Join(s.dir, markName), []byte(s.marked()), 0o600)
}

// marked names the project, and its user where that is not the server's own: whoever can read a folder could have the consoles of
// others removed by its settings.
func (s *session) marked() string {
	if s.behalf == nil {
		return s.project
	}
	return s.user().Name + "\n" + s.project
}

// tidy removes, when a session has ended, the consoles of its project's sessions that the project's settings keep no longer.
// The session's own stays: it was just looked at.
func (s *session) tidy() {
	keep := s.settings.Logs
	if keep == (project.Logs{}) || s.m.cfg.Ephemeral {
		return
	}
	select {
	case <-s.done:
	default:
		return // it goes on without this process
	}
	s.m.remove(s, keep, func(mark string) bool { return mark == s.marked() })
}

// tidyAll removes what the server keeps no longer of sessions that have ended, whatever projects they were of. The one that has
// just ended, if there is one, stays: it was just looked at.
func (m *Manager) tidyAll(own *session) {
	if m.cfg.Logs != (project.Logs{}) && !m.cfg.Ephemeral {
		m.remove(own, m.cfg.Logs, func(string) bool { return true })
	}
}

// remove removes the consoles, of sessions whose marks fit, that are not to be kept, but for one session's own.
func (m *Manager) remove(own *session, keep project.Logs, fits func(mark string) bool) {
	bytes, id := int64(0), engine.ID("")
	if own != nil {
		bytes, id = sizeOf(own.dir), own.id
	}
	old, err := m.endedOf(id, fits)
	m.logged("look for old consoles", err)
	var gone []engine.ID
	for _, l := range tooMuch(old, bytes, keep, m.now()) {
		gone = append(gone, l.id)
		m.logged("remove the console of session "+string(l.id), os.RemoveAll(l.dir))
		m.unrecord(l.id)
	}
	m.drop(func(s *session) bool { return slices.Contains(gone, s.id) })
}

// log is what a session that has ended left.
type log struct {
	id    engine.ID
	dir   string
	wrote time.Time // the last time
	bytes int64
}

// endedOf returns the logs of sessions that have ended, those of earlier servers too, whose marks fit, but for one.
func (m *Manager) endedOf(but engine.ID, fits func(mark string) bool) ([]log, error) {
	sessions := filepath.Join(m.cfg.StateDir, sessionsName)
	entries, err := os.ReadDir(sessions)
	if err != nil {
		return nil, err
	}
	var logs []log
	for _, e := range entries {
		l := log{id: engine.ID(e.Name()), dir: filepath.Join(sessions, e.Name())}
		mark, err := os.ReadFile(filepath.Join(l.dir, markName))
		switch {
		case errors.Is(err, fs.ErrNotExist) && m.unmarked(l.dir): // no project's: fits only whoever takes all
		case err != nil:
			continue
		}
		if !fits(string(mark)) || l.id == but || !l.id.Valid() {
			continue
		}
		l.bytes, l.wrote = sizeOf(l.dir), wroteAt(l.dir)
		logs = append(logs, l)
	}
	// After the folders were read: one with a mark is alive now, or has ended.
	handles, err := m.cfg.Driver.List(m.ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(logs, func(l log) bool {
		return m.lives(l.id) || slices.ContainsFunc(handles, func(h driver.Handle) bool { return h.Session == l.id })
	}), nil
}

// unmarkedTime is far more than it takes to create a session.
const unmarkedTime = time.Minute

// unmarked reports whether a folder without a mark is what a session left that ended long ago, as that of one whose server was
// killed while it was created: nothing but a console, without the files of a keeper.
func (m *Manager) unmarked(dir string) bool {
	entries, err := os.ReadDir(dir)
	info, statErr := os.Stat(dir)
	return err == nil && statErr == nil && len(entries) == 1 && entries[0].Name() == consoleName &&
		m.now().Sub(latest(wroteAt(dir), info.ModTime())) > unmarkedTime
}

// lives reports whether a session is known to live: a driver that cannot ask at the moment does not list its place.
func (m *Manager) lives(id engine.ID) bool {
	s, err := m.session(id)
	if err != nil {
		return false
	}
	select {
	case <-s.done:
		return false
	default:
		return true
	}
}

// tooMuch returns those logs that are older than the settings say, and the oldest ones that are over the size, of which the
// session that has just ended takes its part.
func tooMuch(logs []log, own int64, keep project.Logs, now time.Time) []log {
	slices.SortFunc(logs, func(a, b log) int { return b.wrote.Compare(a.wrote) })
	total := own
	for i, l := range logs {
		total += l.bytes
		if keep.Days > 0 && now.Sub(l.wrote) > time.Duration(keep.Days)*24*time.Hour || keep.Size > 0 && total > bytesOf(keep.Size) {
			return logs[i:]
		}
	}
	return nil
}

func sizeOf(dir string) (bytes int64) {
	eachFile(dir, func(info fs.FileInfo) { bytes += info.Size() })
	return bytes
}

// wroteAt is when a file of a folder was changed last.
func wroteAt(dir string) (at time.Time) {
	eachFile(dir, func(info fs.FileInfo) { at = latest(at, info.ModTime()) })
	return at
}

func eachFile(dir string, do func(fs.FileInfo)) {
	filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil {
				do(info)
			}
		}
		return nil // one that cannot be looked at counts nothing
	})
}
