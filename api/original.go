package api

// Original is the path that the original's routes begin with: those that scripts and client modules written for it call.
// Their descriptions are type Worker.
const Original = "/api/v1"

// LaunchEngine is the body of POST /projects/{owner}/{slug}/dashboards: one worker. Clients of the original send numbers also
// as text, and what they have nothing for as "", [] or null; R's encoders put single values into lists.
type LaunchEngine struct {
	Kernel   any `json:"kernel,omitempty" doc:"text; empty: by the script's ending, else the session's"`
	CPU      any `json:"cpu,omitempty" doc:"cores: a number, also as text"`
	Memory   any `json:"memory,omitempty" doc:"gigabytes (1e9 bytes): a number, also as text"`
	GPUs     any `json:"nvidia_gpu,omitempty" doc:"a whole number, also as text; absent: 0"`
	Script   any `json:"script,omitempty" doc:"text: file to run, relative to the project or absolute"`
	Code     any `json:"code,omitempty" doc:"text: code to run, if script is empty"`
	Env      any `json:"env,omitempty" doc:"an object of names and values; \"\", [] and null are none"`
	Name     any `json:"name,omitempty" doc:"text"`
	MasterID any `json:"master_id,omitempty" doc:"text: the session's id, or that of one of its workers; absent: the session that the token belongs to"`

	// Of no effect on one machine:
	AcceleratorLabel any `json:"accelerator_label_id,omitempty" doc:"accepted, of no effect"`
	ResourceProfile  any `json:"resource_profile_id,omitempty" doc:"accepted, of no effect"`
	ResourceGroup    any `json:"resource_group_id,omitempty" doc:"accepted, of no effect"`
}

// Refused answers a launch whose form is wrong, in the words of both APIs. What is refused for another reason (too large, no
// such script) is a Worker without id, which has the same keys message, k8sMessage and engineId.
type Refused struct {
	Error
	K8sMessage string `json:"k8sMessage" doc:"the message again, under the name that clients of the original read"`
	EngineID   string `json:"engineId" doc:"empty: there was no engine yet"`
}

// SiteConfig answers GET /site/config.
type SiteConfig struct {
	MaxGPUs     int     `json:"max_gpu_per_engine" doc:"what one engine can have at most: all of this machine's"`
	Accelerator int     `json:"default_accelerator_label_id" doc:"-1: there are no labels"`
	MaxCPU      float64 `json:"max_cpu_per_engine" doc:"cores of this machine"`
	MaxMemory   float64 `json:"max_memory_per_engine" doc:"gigabytes (1e9 bytes) of this machine"`
}
