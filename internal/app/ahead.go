package app

import (
	"muster/engine"
	"muster/internal/manager"
)

// aheadVariable, in a server's environment, says whether it starts engines ahead of their work.
const aheadVariable = "MUSTER_AHEAD"

func aheadOf(value string) (manager.Ahead, error) {
	switch value {
	case "", "on":
		return manager.AheadOn, nil
	case "off":
		return manager.AheadOff, nil
	case "random":
		return manager.AheadRandom, nil
	}
	return "", engine.Errorf(engine.Invalid, "%s is %q", aheadVariable, value).
		WithHint("on starts workers ahead of their work, off does not, random lets each launch use those or not")
}
