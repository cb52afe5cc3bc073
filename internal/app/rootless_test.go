package app

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"muster/engine"
)

// Each refusal says which setting it is and the one command that changes it. Those that this machine can produce are produced in
// TestRootlessRefused.
func TestRefusals(t *testing.T) {
	cannot := func(errno syscall.Errno) error {
		return &os.PathError{Op: "fork/exec", Path: "/proc/self/exe", Err: errno}
	}
	hub := engine.Errorf(engine.Unavailable, "network namespaces do not work: operation not permitted")
	for _, c := range []struct {
		name     string
		kernel   map[string]string
		err      error // of the clone
		inside   error // of the trial in a namespace
		why, fix string
	}{
		{"Debian before 11", map[string]string{"kernel/unprivileged_userns_clone": "0"}, cannot(syscall.EPERM), nil,
			"(kernel.unprivileged_userns_clone=0)", "sysctl -w kernel.unprivileged_userns_clone=1"},
		{"switched off", map[string]string{"user/max_user_namespaces": "0"}, cannot(syscall.ENOSPC), nil,
			"(user.max_user_namespaces=0)", "sysctl -w user.max_user_namespaces=100000"},
		{"used up", map[string]string{"user/max_user_namespaces": "70"}, cannot(syscall.ENOSPC), nil,
			"(user.max_user_namespaces=70)", "sysctl -w user.max_user_namespaces=100000"},
		{"filter of a container", nil, cannot(syscall.EPERM), nil, "as in most containers", "--security-opt seccomp=unconfined"},
		{"no such kernel", nil, cannot(syscall.EINVAL), nil, "no user namespaces", "CONFIG_USER_NS"},
		{"Ubuntu 24.04", map[string]string{"kernel/apparmor_restrict_unprivileged_userns": "1"}, nil, hub,
			"(kernel.apparmor_restrict_unprivileged_userns=1): network namespaces", "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"},
		{"Ubuntu 24.04 that refuses", map[string]string{"kernel/apparmor_restrict_unprivileged_userns": "1"}, cannot(syscall.EPERM), nil,
			"(kernel.apparmor_restrict_unprivileged_userns=1)", "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"},
		{"no networks", map[string]string{"user/max_net_namespaces": "0"}, nil, hub,
			"(user.max_net_namespaces=0): network namespaces", "sysctl -w user.max_net_namespaces=100000"},
		{"profile allows it", map[string]string{"kernel/apparmor_restrict_unprivileged_userns": "0"}, nil, hub, "network namespaces", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			read := settings(func(name string) string { return c.kernel[name] })
			err := c.inside
			if err == nil {
				err = read.noNamespace(c.err)
			} else {
				err = read.restricted(err)
			}
			if !strings.Contains(err.Error(), c.why) || !strings.Contains(engine.HintOf(err), c.fix) {
				t.Errorf("%v (%s)", err, engine.HintOf(err))
			}
			if engine.KindOf(err) != engine.Unavailable {
				t.Errorf("kind %s", engine.KindOf(err))
			}
		})
	}
}

// What a trial finds out arrives as the same error.
func TestRefusalIsPassedOn(t *testing.T) {
	if refusalOf(nil).err() != nil {
		t.Error("no refusal is an error")
	}
	err := engine.Errorf(engine.Conflict, "a %s", "sentence").WithHint("100%% sure")
	got := refusalOf(fmt.Errorf("around: %w", err)).err()
	if got.Error() != "around: a sentence" || engine.KindOf(got) != engine.Conflict || engine.HintOf(got) != engine.HintOf(err) {
		t.Errorf("%v, %s, %q", got, engine.KindOf(got), engine.HintOf(got))
	}
	if plain := refusalOf(errors.New("x")).err(); engine.HintOf(plain) != "" {
		t.Errorf("hint %q", engine.HintOf(plain))
	}
}
