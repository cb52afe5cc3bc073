package keeper

import (
	"maps"

	"muster/internal/initproc"
)

func (k *Keeper) addInit(pid int) {
	k.mu.Lock()
	k.inits[pid] = true
	k.mu.Unlock()
}

// endStrays kills, on the plain rung, descendants of an init that was itself killed: they are the keeper's children now.
// The init with that process id was waited for.
func (k *Keeper) endStrays(pid int) {
	k.strays.Lock()
	defer k.strays.Unlock()
	k.mu.Lock()
	delete(k.inits, pid)
	inits := maps.Clone(k.inits)
	k.mu.Unlock()
	if k.config.Plain {
		initproc.EndDescendants(inits)
	}
}
