package keeper

// sshState is what a keeper holds for its session's SSH servers, guarded by Keeper.mu. The key is in memory only: it ends
// with the session, and a later server asks for it.
type sshState struct {
	key  []byte
	told map[string]bool
}

// keepKey returns the session's key: the one that was proposed first.
func (k *Keeper) keepKey(proposed []byte) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ssh.key == nil {
		k.ssh.key = proposed
	}
	return k.ssh.key
}

// noticeOnce is notice for what every engine of a session may say.
func (k *Keeper) noticeOnce(text string) {
	k.mu.Lock()
	told := k.ssh.told[text] || len(k.ssh.told) >= keptNotices // who says so much is not listened to
	if !told {
		if k.ssh.told == nil {
			k.ssh.told = map[string]bool{}
		}
		k.ssh.told[text] = true
	}
	k.mu.Unlock()
	if !told {
		k.notice(text)
	}
}
