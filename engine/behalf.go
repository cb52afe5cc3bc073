package engine

// Behalf is for whom a shared server looks at files and runs programs: for one of its users, whose word the paths are. nil is
// the server's own user.
type Behalf struct {
	Account Account
	// Look runs files with the user's rights to files. An error says that it could not: files has not run.
	Look func(files func()) error
}

// Do looks at files with the user's rights.
func (b *Behalf) Do(files func()) error {
	if b == nil {
		files()
		return nil
	}
	return b.Look(files)
}

// Try is Do for what can fail.
func (b *Behalf) Try(files func() error) error {
	var failed error
	if err := b.Do(func() { failed = files() }); err != nil {
		return err
	}
	return failed
}

// Runs is the account that programs run as; nil: the server's own.
func (b *Behalf) Runs() *Account {
	if b == nil {
		return nil
	}
	return &b.Account
}

// Key tells users apart, "" for the server's own: a program that one user may have written, and can steer while it runs, says
// nothing to another.
func (b *Behalf) Key() string {
	if b == nil {
		return ""
	}
	return b.Account.Name
}
