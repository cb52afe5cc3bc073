package manager

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"muster/api"
	"muster/engine"
	"muster/internal/driver"
)

// vars is an environment by names.
type vars map[string]string

// list is the form that processes get, sorted.
func (v vars) list() []string {
	l := make([]string, 0, len(v))
	for k, val := range v {
		l = append(l, k+"="+val)
	}
	slices.Sort(l)
	return l
}

// envInput is everything that an engine's environment depends on.
type envInput struct {
	Base      map[string]string // the session's caller's environment
	Variables map[string]string // the project's
	Env       map[string]string // given for this engine
	Command   map[string]string // what its kernel adds
	ID        engine.ID
	Master    engine.ID
	IP        string
	MasterIP  string
	Role      engine.Role
	CPU       float64
	Memory    int64 // bytes; of a session without limit what the machine has
	GPUs      []driver.GPU
	HidesGPUs bool // the driver shows the engine its own devices alone
	Project   string
	User      string
	Home      string
	Shell     string // "": not said
	Key       string
	APIURL    string // scheme and host where our own clients in the engine find the API
	Site      site
	Terminal  bool // a terminal shows its stderr
	Wait      bool // the driver makes an early connect to the master wait
}

// threadVars say how many threads, or processes, libraries start: their share, not the machine's cores.
var threadVars = []string{
	"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
	"PYTHON_CPU_COUNT", "LOKY_MAX_CPU_COUNT", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS", "R_PARALLELLY_AVAILABLECORES_FALLBACK",
}

// sshSwitch, set to "off" by a session's caller or for one worker, leaves port 2222 to the engine's own code.
const sshSwitch = "MUSTER_SSH"

// buildEnv makes the environment of an engine. Later layers win: the caller's, defaults, the project's, what was given for the
// engine, its kernel's, and last what tells the engine who it is.
func buildEnv(in envInput) vars {
	e := vars{}
	for k, v := range in.Base {
		if k == sshSwitch || !ours(k) && k != "OLDPWD" {
			e[k] = v
		}
	}
	e.defaults(in)
	maps.Copy(e, in.Variables)
	maps.Copy(e, in.Env)
	maps.DeleteFunc(e, func(k, _ string) bool { return strings.HasPrefix(k, "MUSTER_") && k != sshSwitch }) // they steer our clients, and come from here alone
	e["PATH"] = withLocalBin(e["PATH"], e["HOME"])
	maps.Copy(e, in.Command)
	maps.Copy(e, identity(in))
	return e
}

// ours reports variables of another engine that must not reach this one through its caller's environment.
func ours(k string) bool {
	return strings.HasPrefix(k, "CDSW_") || strings.HasPrefix(k, "CML_") || strings.HasPrefix(k, "MUSTER_") || k == "PROJECT_OWNER"
}

func (e vars) orElse(k, v string) {
	if e[k] == "" {
		e[k] = v
	}
}

// defaults sets what the project and the launch may set otherwise.
func (e vars) defaults(in envInput) {
	e.orElse("HOME", in.Home)
	e.orElse("USER", in.User)
	e.orElse("LOGNAME", e["USER"])
	if in.Shell != "" {
		e.orElse("SHELL", in.Shell)
	}
	e.orElse("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	e["PWD"] = in.Project
	e["HOSTNAME"] = string(in.ID)
	e["PYTHONUNBUFFERED"] = "1"
	threads := strconv.Itoa(threads(in.CPU))
	for _, k := range threadVars {
		e.orElse(k, threads)
	}
	e["CUDA_VISIBLE_DEVICES"], e["NVIDIA_VISIBLE_DEVICES"] = gpuVars(in.GPUs, in.HidesGPUs)
}

// gpuVars names the devices given. A UUID means the same everywhere. Without it CUDA counts the devices that it can open,
// from 0, so that an engine that sees its own alone counts those; the other variable keeps the machine's number.
func gpuVars(gpus []driver.GPU, hidden bool) (cuda, nvidia string) {
	if len(gpus) == 0 {
		return "", "void"
	}
	var c, n []string
	for i, g := range gpus {
		index := strconv.Itoa(g.Index)
		switch {
		case g.UUID != "":
			c, n = append(c, g.UUID), append(n, g.UUID)
		case hidden:
			c, n = append(c, strconv.Itoa(i)), append(n, index)
		default:
			c, n = append(c, index), append(n, index)
		}
	}
	return strings.Join(c, ","), strings.Join(n, ",")
}

// withLocalBin adds ~/.local/bin at the end, where it hides no interpreter of the caller's.
func withLocalBin(path, home string) string {
	bin := strings.TrimSuffix(home, "/") + "/.local/bin"
	if slices.Contains(strings.Split(path, ":"), bin) {
		return path
	}
	return path + ":" + bin
}

// identity is what tells an engine who and where it is: nobody overrides it.
func identity(in envInput) vars {
	s := in.Site
	e := vars{
		"CDSW_ENGINE_ID":      string(in.ID),
		"CDSW_MASTER_ID":      string(in.Master),
		"CDSW_MASTER_IP":      in.MasterIP,
		"CML_MASTER_IP":       in.MasterIP,
		"CDSW_IP_ADDRESS":     in.IP,
		"CDSW_ENGINE_TYPE":    string(in.Role),
		"CDSW_APP_PORT":       "8090",
		"CDSW_READONLY_PORT":  "8100",
		"CDSW_PUBLIC_PORT":    "8080",
		"CDSW_DOMAIN":         s.domain,
		"CDSW_PROJECT":        s.project.Name,
		"CDSW_PROJECT_ID":     strconv.Itoa(s.project.ID),
		"CDSW_CREATOR":        s.person.Username,
		"PROJECT_OWNER":       s.owner.Username,
		"CDSW_API_URL":        s.base + api.Original,
		"CDSW_PROJECT_URL":    s.project.URL,
		"CDSW_ENGINE_URL":     s.dashboardURL(in.ID),
		"CDSW_API_KEY":        in.Key,
		"CDSW_APIV2_KEY":      in.Key,
		"CDSW_CPU_MILLICORES": strconv.FormatInt(int64(math.Round(math.Min(in.CPU, 1e12)*1000)), 10),
		"CDSW_MEMORY_MB":      strconv.FormatInt(in.Memory/1e6, 10),
		"MUSTER_URL":          in.APIURL,
	}
	if in.Terminal {
		e["MUSTER_TERMINAL"] = "1"
	}
	if !in.Wait {
		e["MUSTER_CONNECT_RETRY"] = "1"
	}
	return e
}

// environment is buildEnv for an engine as it is known so far.
func (m *Manager) environment(s *session, w *worker, work *work, from *origin) vars {
	return buildEnv(m.envInput(s, w, work, from))
}

// searchEnvironment is where interpreters are looked up for the session's engines. Its project's variables are not in it: they
// are an engine's writing, perhaps, and the search runs on the host.
func (m *Manager) searchEnvironment(s *session, work *work, from *origin) vars {
	in := m.envInput(s, s.main, work, from)
	in.Variables = nil
	return buildEnv(in)
}

func (m *Manager) envInput(s *session, w *worker, work *work, from *origin) envInput {
	caps, who := m.cfg.Driver.Capabilities(), m.accountOf(s)
	in := envInput{
		Base: from.base, Variables: s.settings.Environment, Env: work.env, Command: work.command.Env,
		ID: w.id, Master: s.id, IP: w.addr.String(), MasterIP: s.main.addr.String(), Role: w.batch.role,
		CPU: w.batch.cpu, Memory: w.ticket.want.memory, GPUs: w.ticket.gpus, HidesGPUs: caps.GPU,
		Project: s.project, User: who.Name, Home: who.Home, Shell: who.Shell, Key: s.key, APIURL: s.url, Site: s.site, Wait: caps.ConnectWait && (caps.AttachApart || s.kind != kindAttached),
		Terminal: s.terminal && w == s.main,
	}
	if in.Memory == 0 {
		in.Memory = m.cfg.Capacity.MemoryBytes
	}
	return in
}
