package manager

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"muster/api"
	"muster/engine"
	"muster/internal/driver"
	"muster/internal/kernel"
)

func envOfWorker() envInput {
	return envInput{
		Base: map[string]string{"HOME": "/home/ada", "USER": "ada", "PATH": "/venv/bin:/usr/bin", "SHARED": "base", "ONLY_BASE": "1"},
		ID:   "ar4nrrt7q0wmarcv", Master: "matqgdmrrh08o6t6", IP: "100.100.0.3", MasterIP: "100.100.0.2", Role: engine.RoleWorker,
		CPU: 1.5, Memory: 500e6, Project: "/home/ada/my project", User: "caller", Home: "/root", Key: "secret",
		APIURL: "http://100.100.0.1:8088", Wait: true,
		Site: site{
			domain: "localhost:8080", base: "http://localhost:8080",
			project: api.Project{
				ID: 7, Name: "my-project", Slug: "ada/my-project", URL: "http://localhost:8080/api/v1/projects/ada/my-project",
			},
			person: api.Person{Username: "ada"}, owner: api.Person{Username: "ada"},
		},
	}
}

// The whole environment of a worker: the table of the workers API and what we add.
func TestWorkerEnvironment(t *testing.T) {
	want := vars{
		"CDSW_ENGINE_ID": "ar4nrrt7q0wmarcv", "CDSW_MASTER_ID": "matqgdmrrh08o6t6",
		"CDSW_MASTER_IP": "100.100.0.2", "CML_MASTER_IP": "100.100.0.2", "CDSW_IP_ADDRESS": "100.100.0.3",
		"CDSW_ENGINE_TYPE": "worker", "CDSW_APP_PORT": "8090", "CDSW_READONLY_PORT": "8100", "CDSW_PUBLIC_PORT": "8080",
		"CDSW_DOMAIN": "localhost:8080", "CDSW_PROJECT": "my-project", "CDSW_PROJECT_ID": "7", "CDSW_CREATOR": "ada",
		"PROJECT_OWNER": "ada", "CDSW_API_URL": "http://localhost:8080/api/v1",
		"CDSW_PROJECT_URL": "http://localhost:8080/api/v1/projects/ada/my-project",
		"CDSW_ENGINE_URL":  "http://localhost:8080/api/v1/projects/ada/my-project/dashboards/ar4nrrt7q0wmarcv",
		"CDSW_API_KEY":     "secret", "CDSW_APIV2_KEY": "secret", "CDSW_CPU_MILLICORES": "1500", "CDSW_MEMORY_MB": "500",
		"MUSTER_URL": "http://100.100.0.1:8088", "PYTHONUNBUFFERED": "1",
		"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "NUMEXPR_NUM_THREADS": "2",
		"LOKY_MAX_CPU_COUNT": "2", "POLARS_MAX_THREADS": "2", "RAYON_NUM_THREADS": "2",
		"VECLIB_MAXIMUM_THREADS": "2", "PYTHON_CPU_COUNT": "2", "R_PARALLELLY_AVAILABLECORES_FALLBACK": "2",
		"CUDA_VISIBLE_DEVICES": "", "NVIDIA_VISIBLE_DEVICES": "void",
		"HOME": "/home/ada", "USER": "ada", "LOGNAME": "ada", "PATH": "/venv/bin:/usr/bin:/home/ada/.local/bin",
		"PWD": "/home/ada/my project", "HOSTNAME": "ar4nrrt7q0wmarcv", "SHARED": "base", "ONLY_BASE": "1",
	}
	got := buildEnv(envOfWorker())
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if v, ok := got[k]; !ok || v != want[k] {
			t.Errorf("%s=%q (%v), want %q", k, v, ok, want[k])
		}
		delete(got, k)
	}
	if len(got) > 0 {
		t.Errorf("not asked for: %v", got)
	}
	// Scripts split the project's URL and take the owner from it.
	if parts := strings.Split(want["CDSW_PROJECT_URL"], "/"); parts[6] != "ada" {
		t.Errorf("parts %q", parts)
	}
}

func TestEnvironmentLayers(t *testing.T) {
	gpu := func(index int, uuid string) driver.GPU { return driver.GPU{Index: index, UUID: uuid} }
	for _, c := range []struct {
		what   string
		change func(*envInput)
		want   map[string]string // "-": not there
	}{
		{"env is over the project's variables, these over the caller's", func(in *envInput) {
			in.Base["A"], in.Base["B"], in.Base["C"] = "base", "base", "base"
			in.Variables = map[string]string{"A": "project", "B": "project"}
			in.Env = map[string]string{"A": "env"}
		}, map[string]string{"A": "env", "B": "project", "C": "base"}},
		{"nobody overrides who an engine is", func(in *envInput) {
			for _, layer := range []*map[string]string{&in.Base, &in.Variables, &in.Env, &in.Command} {
				*layer = map[string]string{"CDSW_ENGINE_ID": "x", "CDSW_MASTER_IP": "x", "CML_MASTER_IP": "x", "CDSW_API_KEY": "x", "PROJECT_OWNER": "x", "MUSTER_URL": "x"}
			}
		}, map[string]string{
			"CDSW_ENGINE_ID": "ar4nrrt7q0wmarcv", "CDSW_MASTER_IP": "100.100.0.2", "CML_MASTER_IP": "100.100.0.2",
			"CDSW_API_KEY": "secret", "PROJECT_OWNER": "ada", "MUSTER_URL": "http://100.100.0.1:8088",
		}},
		{"another engine's variables do not come in with the caller's", func(in *envInput) {
			in.Base["CDSW_FOO"], in.Base["MUSTER_CONNECT_RETRY"], in.Base["OLDPWD"], in.Base["PWD"] = "x", "x", "x", "/elsewhere"
			in.Env = map[string]string{"CDSW_BAR": "mine", "MUSTER_CONNECT_RETRY": "0"}
		}, map[string]string{"CDSW_FOO": "-", "CDSW_BAR": "mine", "MUSTER_CONNECT_RETRY": "-", "OLDPWD": "-", "PWD": "/home/ada/my project"}},
		{"a driver whose connects do not wait needs a client that does", func(in *envInput) { in.Wait = false },
			map[string]string{"MUSTER_CONNECT_RETRY": "1"}},
		{"threads that somebody chose stay", func(in *envInput) {
			in.Base["OMP_NUM_THREADS"] = "8"
			in.Env = map[string]string{"MKL_NUM_THREADS": "3", "PYTHONUNBUFFERED": ""}
		}, map[string]string{"OMP_NUM_THREADS": "8", "MKL_NUM_THREADS": "3", "NUMEXPR_NUM_THREADS": "2", "PYTHONUNBUFFERED": ""}},
		{"less than a core is one thread", func(in *envInput) { in.CPU = 0.2 },
			map[string]string{"OMP_NUM_THREADS": "1", "CDSW_CPU_MILLICORES": "200"}},
		{"absurd CPU", func(in *envInput) { in.CPU = 1e300 }, map[string]string{"OMP_NUM_THREADS": "1000000"}},
		{"a caller without an environment", func(in *envInput) { in.Base = nil }, map[string]string{
			"HOME": "/root", "USER": "caller", "LOGNAME": "caller",
			"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/root/.local/bin",
		}},
		{"the local bin is there once", func(in *envInput) { in.Base["PATH"] = "/home/ada/.local/bin:/bin" },
			map[string]string{"PATH": "/home/ada/.local/bin:/bin"}},
		{"what the kernel adds", func(in *envInput) {
			in.Base["PYTHONPATH"] = "/mine"
			in.Command = map[string]string{"PYTHONPATH": "/clients:/mine"}
		}, map[string]string{"PYTHONPATH": "/clients:/mine"}},
		{"GPUs by UUID", func(in *envInput) { in.GPUs, in.HidesGPUs = []driver.GPU{gpu(2, "GPU-c"), gpu(3, "GPU-d")}, true },
			map[string]string{"CUDA_VISIBLE_DEVICES": "GPU-c,GPU-d", "NVIDIA_VISIBLE_DEVICES": "GPU-c,GPU-d"}},
		{"GPUs without UUID, the others hidden", func(in *envInput) { in.GPUs, in.HidesGPUs = []driver.GPU{gpu(2, ""), gpu(3, "")}, true },
			map[string]string{"CUDA_VISIBLE_DEVICES": "0,1", "NVIDIA_VISIBLE_DEVICES": "2,3"}},
		{"GPUs without UUID, the others in sight", func(in *envInput) { in.GPUs = []driver.GPU{gpu(2, ""), gpu(3, "")} },
			map[string]string{"CUDA_VISIBLE_DEVICES": "2,3", "NVIDIA_VISIBLE_DEVICES": "2,3"}},
		{"the caller's GPUs are not the engine's", func(in *envInput) { in.Base["CUDA_VISIBLE_DEVICES"] = "0" },
			map[string]string{"CUDA_VISIBLE_DEVICES": ""}},
		{"a session's own engine", func(in *envInput) { in.Role, in.ID, in.IP = engine.RoleSession, in.Master, in.MasterIP },
			map[string]string{"CDSW_ENGINE_TYPE": "session", "CDSW_ENGINE_ID": "matqgdmrrh08o6t6", "CDSW_MASTER_ID": "matqgdmrrh08o6t6", "CDSW_IP_ADDRESS": "100.100.0.2"}},
	} {
		in := envOfWorker()
		c.change(&in)
		got := buildEnv(in)
		for k, want := range c.want {
			if v, ok := got[k]; ok == (want == "-") || ok && v != want {
				t.Errorf("%s: %s=%q (%v), want %q", c.what, k, v, ok, want)
			}
		}
	}
}

// They say of a kind only how it differs from others of its name.
func TestThreadVariablesAreKnown(t *testing.T) {
	for _, name := range threadVars {
		if !slices.Contains(kernel.ThreadVariables, name) {
			t.Errorf("%s is not among kernel.ThreadVariables", name)
		}
	}
}

// Every variable that tells an engine who it is, set by everybody who may set variables.
func TestNobodyOverridesIdentity(t *testing.T) {
	want := identity(envOfWorker())
	for name, layer := range map[string]func(*envInput, vars){
		"the caller":  func(in *envInput, v vars) { in.Base = v },
		"the project": func(in *envInput, v vars) { in.Variables = v },
		"the launch":  func(in *envInput, v vars) { in.Env = v },
		"the kernel":  func(in *envInput, v vars) { in.Command = v },
	} {
		in, theirs := envOfWorker(), vars{}
		for k := range want {
			theirs[k] = "theirs"
		}
		layer(&in, theirs)
		got := buildEnv(in)
		for k, v := range want {
			if got[k] != v {
				t.Errorf("%s makes %s %q, it is %q", name, k, got[k], v)
			}
		}
	}
}

func TestEnvironmentList(t *testing.T) {
	if got := (vars{"B": "2", "A": "1=1"}).list(); !slices.Equal(got, []string{"A=1=1", "B=2"}) {
		t.Errorf("%q", got)
	}
}
