package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"muster/engine"
	"muster/internal/driver"
	"muster/internal/driver/local"
	"muster/internal/manager"
)

// machine says what there is to give: what the configuration says, else what the machine has.
func machine(c config) (manager.Capacity, error) {
	capacity := manager.Capacity{MemoryBytes: c.memoryCapacityBytes, CPU: float64(runtime.NumCPU()), Cores: ownCores()}
	if capacity.MemoryBytes == 0 {
		total, err := totalMemory()
		if err != nil {
			return capacity, engine.Errorf(engine.Unavailable, "the machine's memory is unknown: %v", err).
				WithHint("say it with --memory-capacity")
		}
		capacity.MemoryBytes = total
	}
	var err error
	capacity.GPUs, err = gpus(c.gpus)
	return capacity, err
}

// ownCores are the numbers of the cores that this process, and so its engines, may use; none if that is not known.
func ownCores() []int {
	var set unix.CPUSet
	var cores []int
	if unix.SchedGetaffinity(0, &set) == nil {
		for i := 0; len(cores) < set.Count(); i++ {
			if set.IsSet(i) {
				cores = append(cores, i)
			}
		}
	}
	return cores
}

// totalMemory reads MemTotal of /proc/meminfo, in bytes.
func totalMemory() (int64, error) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	var kb int64
	if _, err := fmt.Sscanf(string(b), "MemTotal: %d kB", &kb); err != nil {
		return 0, fmt.Errorf("read /proc/meminfo: %w", err)
	}
	return kb * 1024, nil
}

// gpus is the inventory: JSON, the path of a file with JSON, or empty for what the machine has.
func gpus(s string) ([]driver.GPU, error) {
	if s == "" {
		return local.GPUs(), nil
	}
	b := []byte(s)
	if !strings.HasPrefix(strings.TrimSpace(s), "[") {
		var err error
		b, err = os.ReadFile(s)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, engine.Errorf(engine.Invalid, "the GPU inventory %q is neither a file nor JSON", s).WithHint(gpuForm)
		case err != nil:
			return nil, engine.Errorf(engine.Invalid, "the GPU inventory cannot be read: %v", err)
		}
	}
	var list []driver.GPU
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&list); err != nil {
		return nil, engine.Errorf(engine.Invalid, "the GPU inventory is no list of devices: %v", err).WithHint(gpuForm)
	}
	return list, nil
}

const gpuForm = `write it like [{"index": 0, "uuid": "GPU-…", "nodes": ["/dev/nvidia0"]}], or into a file`
