package app

import (
	"context"

	"muster/clients"
	"muster/internal/cli"
)

// installClients is "muster clients": the interpreter is the caller's own, and so is what it is told to do.
func installClients(ctx context.Context, r cli.ClientsRequest) (cli.ClientsResult, error) {
	do := map[bool]func(context.Context, clients.Interpreter) (clients.Result, error){
		false: clients.InstallPython, true: clients.UninstallPython,
	}
	if r.Language == "r" {
		do[false], do[true] = clients.InstallR, clients.UninstallR
	}
	done, err := do[r.Remove](ctx, clients.Interpreter{Path: r.Path, Environ: r.Environ, Binary: r.Binary})
	return cli.ClientsResult(done), err
}
