package app

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"muster/engine"
	"muster/internal/cli"
	"muster/internal/driver/local"
	"muster/internal/kernel"
	"muster/internal/linux/cgroup"
	"muster/internal/linux/hub"
	"muster/internal/linux/netns"
	"muster/internal/linux/openssh"
	"muster/internal/project"
)

// doctor examines what this machine can isolate and limit, and what is missing for each language.
func doctor(ctx context.Context) cli.Report {
	refused := enter(string(local.Auto), "", nil) // it looks from where a server would be
	rung := rightsRow(refused)
	rows := []cli.Row{systemRow(), rung}
	if rung.OK || os.Geteuid() == 0 {
		rows = append(rows, networkRow())
	}
	rows = append(rows, cgroupRows()...)
	rows = append(rows, logoutRows("/")...)
	dir, err := os.Getwd()
	if err != nil {
		dir = "/"
	}
	settings, row := settingsRow(dir)
	rows = append(rows, gpuRow(), sshRow(rung.OK), webRow(ctx), foldersRow(), row)
	return cli.Report{Rows: append(rows, languageRows(ctx, refused, dir, settings.Kernels)...)}
}

func systemRow() cli.Row {
	var u unix.Utsname
	unix.Uname(&u)
	memory, _ := totalMemory()
	return cli.Row{What: "machine", OK: true, Detail: fmt.Sprintf("Linux %s, %s, %d CPUs, %.1f GB memory",
		unix.ByteSliceToString(u.Release[:]), runtime.GOARCH, runtime.NumCPU(), float64(memory)/1e9)}
}

func rightsRow(refused error) cli.Row {
	rung, err := local.Try(refused)
	switch {
	case err == nil && rung == local.Root:
		return cli.Row{What: "rung", OK: true, Detail: "root: engines get namespaces and own addresses, and limits as control groups allow"}
	case err == nil:
		return cli.Row{What: "rung", OK: true, Detail: "rootless: engines get namespaces and own addresses, and limits where they are delegated"}
	}
	row := cli.Row{What: "rung", Detail: fmt.Sprintf("plain: engines are processes without isolation, own addresses or limits (%v)", err)}
	if row.Fix = engine.HintOf(err); row.Fix == "" {
		row.Fix = "give root its rights (in a container: --privileged, or the capabilities SYS_ADMIN and NET_ADMIN)"
	}
	return row
}

func networkRow() cli.Row {
	row := cli.Row{What: "network namespaces"}
	ns, err := netns.New()
	if err != nil {
		row.Detail, row.Fix = err.Error(), "run as root, on a kernel with network namespaces"
		return row
	}
	ns.Close()
	network, err := hub.PickRange("")
	if err != nil {
		row.Detail, row.Fix = err.Error(), engine.HintOf(err)
		return row
	}
	h, err := hub.New(network)
	if err != nil {
		row.Detail, row.Fix = err.Error(), "load the kernel modules veth and nf_tables"
		return row
	}
	h.Close()
	row.OK, row.Detail = true, fmt.Sprintf("engines' addresses are in %s", network)
	return row
}

func cgroupRows() []cli.Row {
	tree, err := cgroup.Detect("", "")
	if err != nil {
		return []cli.Row{{What: "cgroups", Detail: err.Error(), Fix: mountCgroups}}
	}
	return limitRows(tree.Mode(), tree.Supports())
}

const mountCgroups = "as root: mount -t cgroup2 none /sys/fs/cgroup"

// limitRows are of limits, without which sessions run all the same.
func limitRows(mode string, supports []cgroup.Support) []cli.Row {
	rows := []cli.Row{{What: "cgroups", OK: mode != cgroup.None, Optional: true, Detail: "mode " + mode}}
	if mode == cgroup.None {
		rows[0].Detail, rows[0].Fix = "none are mounted: engines are not limited", mountCgroups
	}
	for _, s := range supports {
		row := cli.Row{What: "limit " + s.Controller, OK: s.Usable, Optional: true, Detail: s.Reason}
		if s.Usable {
			row.Detail = fmt.Sprintf("version %d, below %s", s.Version, s.Dir)
		} else if mode != cgroup.None {
			row.Fix = delegation(s, "/")
		}
		rows = append(rows, row)
	}
	return rows
}

// delegation is what gets a controller for this user: systemd gives groups to those that ask, and of the controllers those that the
// administrator lets it hand on (systemd.resource-control(5), Delegate=).
func delegation(s cgroup.Support, root string) string {
	manager := filepath.Join(root, "run/user", strconv.Itoa(os.Getuid()), "systemd")
	_, err := os.Stat(manager)
	switch {
	case s.Controller == cgroup.Devices && s.Version == 2: // it has none
		return ""
	case os.Geteuid() == 0:
		return "let the server have the controller: in a container, start that with --privileged; in a service of systemd's, with Delegate=yes"
	case s.Version == 2 && err == nil:
		return "systemd-run --user --scope -p Delegate=yes muster …; if the controller is still missing, an administrator adds it to " +
			"Delegate= of user@.service (systemctl edit user@.service)"
	case s.Version == 2:
		return "log in so that systemd manages the session (loginctl shows it), then: systemd-run --user --scope -p Delegate=yes muster …"
	}
	return "run as root; of version 1 nothing is delegated by itself, an administrator may chown a group in " + s.Dir
}

// logoutRows say what becomes of a user's sessions when the user logs out, where systemd decides on that (logind.conf(5),
// KillUserProcesses).
func logoutRows(root string) []cli.Row {
	u, err := user.Current()
	if _, noSystemd := os.Stat(filepath.Join(root, "run/systemd/system")); os.Geteuid() == 0 || err != nil || noSystemd != nil {
		return nil
	}
	row := cli.Row{What: "after logout", Optional: true}
	if _, err := os.Stat(filepath.Join(root, "var/lib/systemd/linger", u.Username)); err == nil {
		row.OK, row.Detail = true, "servers and their sessions go on"
	} else {
		row.Detail = "systemd may end servers and their sessions with the last login of " + u.Username
		row.Fix = "loginctl enable-linger " + u.Username
	}
	return []cli.Row{row}
}

func gpuRow() cli.Row {
	gpus := local.GPUs()
	if len(gpus) == 0 {
		return cli.Row{What: "GPUs", OK: true, Detail: "none that the NVIDIA driver shows"}
	}
	var names []string
	for _, g := range gpus {
		names = append(names, fmt.Sprintf("%d (%s)", g.Index, g.UUID))
	}
	return cli.Row{What: "GPUs", OK: true, Detail: strings.Join(names, ", ")}
}

// sshRow looks for OpenSSH's server, and for its client by what engines cover of it.
func sshRow(isolated bool) cli.Row {
	row := cli.Row{What: "ssh", Optional: true}
	if !isolated {
		row.Detail = "not on the plain rung, where port 2222 would be this machine's: MPI and DeepSpeed reach no workers by it"
		return row
	}
	server := openssh.Server()
	_, err := os.Stat(openssh.ClientFile)
	switch {
	case server == "":
		row.Detail = "no server: MPI and DeepSpeed reach no workers"
		row.Fix = "apt-get install openssh-server openssh-client"
	case err != nil:
		row.Detail = fmt.Sprintf("server %s, but no client: %v", server, err)
		row.Fix = "apt-get install openssh-client"
	default:
		row.OK, row.Detail = true, fmt.Sprintf("engines of a session reach each other on port %d, by %s", openssh.Port, server)
	}
	return row
}

// webRow asks as programs of this machine do, by the C library. Browsers find names below localhost without being helped.
func webRow(ctx context.Context) cli.Row {
	const name = "engine.localhost"
	row := cli.Row{What: "web addresses", Optional: true}
	out, err := exec.CommandContext(ctx, "getent", "ahosts", name).Output()
	first, _, _ := strings.Cut(string(out), " ")
	ip, perr := netip.ParseAddr(first)
	switch {
	case err == nil && perr == nil && ip.IsLoopback():
		row.OK, row.Detail = true, "browsers and other programs find engines as ID.localhost"
	case err == nil && perr == nil:
		row.Detail = fmt.Sprintf("browsers find engines as ID.localhost, but other programs are led to %s", ip)
	default:
		row.Detail = "browsers and engines find engines as ID.localhost; other programs here use localhost:PORT/app/ID/"
	}
	if !row.OK {
		row.Fix = "apt-get install libnss-myhostname"
	}
	return row
}

func foldersRow() cli.Row {
	p, err := findPaths("")
	if err != nil {
		return cli.Row{What: "folders", Detail: err.Error(), Fix: engine.HintOf(err)}
	}
	if err := cli.CheckSocket(cli.SocketIn(p.runtime)); err != nil { // muster run has no need of it
		return cli.Row{What: "folders", Detail: err.Error(), Fix: engine.HintOf(err)}
	}
	return cli.Row{What: "folders", OK: true, Detail: fmt.Sprintf("sessions in %s, cache in %s", p.sessions, p.cache)}
}

// settingsRow reads the settings of the project in which the doctor is asked.
func settingsRow(dir string) (project.Settings, cli.Row) {
	row := cli.Row{What: "settings"}
	settings, there, err := project.Read(dir)
	switch {
	case err != nil:
		row.Detail, row.Fix = err.Error(), engine.HintOf(err)
	case !there:
		row.OK, row.Detail = true, "no "+project.FileName+" in "+dir
	default:
		row.OK, row.Detail = true, filepath.Join(dir, project.FileName)+" is right"
	}
	return settings, row
}

// languageRows asks the table for each kernel, those of the project too, as a session in the folder would.
func languageRows(ctx context.Context, refused error, dir string, own []kernel.Own) []cli.Row {
	p, err := findPaths("")
	if err != nil {
		return nil // foldersRow says it
	}
	drv, err := newDriver(p, config{refused: refused})
	if err != nil {
		return []cli.Row{{What: "kernels", Detail: err.Error(), Fix: engine.HintOf(err)}}
	}
	defer drv.Close()
	table := kernel.NewTable(kernel.Config{
		Run: drv.Probe,
		RLibrary: func(ctx context.Context, run engine.RunProbe, _ *engine.Behalf, _, rscript string) (string, error) {
			return "", checkR(ctx, run, rscript)
		},
	})
	env := map[string]string{}
	for _, kv := range os.Environ() {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	var rows []cli.Row
	kernels := []engine.Kernel{engine.Python3, engine.R, engine.Scala, engine.Python2}
	for _, o := range own {
		if !slices.Contains(kernels, o.Kernel) {
			kernels = append(kernels, o.Kernel)
		}
	}
	for _, k := range kernels {
		row := cli.Row{What: "kernel " + string(k), Optional: k != engine.Python3}
		c, err := table.Prepare(ctx, kernel.Request{Kernel: k, Code: "1", Project: dir, Env: env, SearchEnv: env, Trusted: true, Own: own})
		if err != nil {
			row.Detail, row.Fix = err.Error(), engine.HintOf(err)
		} else {
			row.OK, row.Detail = true, c.Interpreter
		}
		rows = append(rows, row)
	}
	return rows
}

// checkR asks R for the packages that our R client needs.
func checkR(ctx context.Context, run engine.RunProbe, rscript string) error {
	const question = `quit(status = !all(c("jsonlite", "curl") %in% rownames(installed.packages())))`
	p := engine.Probe{Argv: []string{rscript, "--vanilla", "-e", question}, Env: os.Environ(), Dir: "/"}
	if _, _, err := run(ctx, p); err != nil {
		return engine.Errorf(engine.Unavailable, "the R packages jsonlite and curl are missing").
			WithHint("apt-get install r-cran-jsonlite r-cran-curl")
	}
	return nil
}
