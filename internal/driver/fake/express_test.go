package fake_test

import (
	"fmt"
	"strings"

	"muster/internal/driver/drivertest"
)

// express puts the suite's steps in the fake's instructions.
func express(steps ...drivertest.Step) (drivertest.Program, error) {
	var b strings.Builder
	for _, s := range steps {
		line, err := instruction(s)
		if err != nil {
			return drivertest.Program{}, err
		}
		b.WriteString(line + "\n")
	}
	return drivertest.Program{
		Argv:  []string{"fake", drivertest.Private + "/program"},
		Files: map[string][]byte{"program": []byte(b.String())},
	}, nil
}

func instruction(s drivertest.Step) (string, error) {
	switch s := s.(type) {
	case drivertest.Print:
		return fmt.Sprintf("raw %q", s.Text+"\n"), nil
	case drivertest.PrintErr:
		return "stderr " + s.Text, nil
	case drivertest.Numbers:
		return fmt.Sprintf("numbers %d", s.N), nil
	case drivertest.PrintEnv:
		return "env", nil
	case drivertest.PrintDir:
		return "pwd", nil
	case drivertest.PrintHost:
		return "resolve", nil
	case drivertest.CopyStdin:
		return "cat", nil
	case drivertest.TerminalSize:
		return "tty", nil
	case drivertest.AwaitFile:
		return "await-file " + s.Path, nil
	case drivertest.ReadLine:
		return "line", nil
	case drivertest.Exit:
		return fmt.Sprintf("exit %d", s.Code), nil
	case drivertest.Die:
		return fmt.Sprintf("signal %d", s.Signal), nil
	case drivertest.Hang:
		return "hang", nil
	case drivertest.IgnoreTerm:
		return "ignore-term", nil
	case drivertest.Trap:
		return fmt.Sprintf("trap %d %s", s.Signal, s.Text), nil
	case drivertest.Allocate:
		return fmt.Sprintf("alloc %d", s.Bytes), nil
	case drivertest.Serve:
		return fmt.Sprintf("serve %d %s", s.Port, s.Text), nil
	case drivertest.Connect:
		return fmt.Sprintf("connect %s %d", s.Addr, s.Port), nil
	case drivertest.Grandchild:
		return "grandchild " + s.FIFO, nil
	default:
		return "", fmt.Errorf("step %T: %w", s, drivertest.ErrCannot)
	}
}
