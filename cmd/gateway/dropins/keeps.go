package dropins

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
)

// Any name that begins so: those of systemd.unit(5) are more than thirty.
const (
	anyMore      = "[A-Za-z0-9]*"
	anyCondition = "Condition" + anyMore
	anyAssertion = "Assert" + anyMore
)

// keeps are settings that may keep a unit from starting, and do so where systemd's last try ended as it does with them.
func keeps() []change {
	keeps := func(kind, setting string, names []string, does effect) change {
		return change{kind, setting, names, does, true, true}
	}
	return []change{
		keeps(service, "WorkingDirectory", nil, exits("it is not there, and the launcher does not start", 200)),
		keeps(service, "RootDirectory", []string{"RootImage"}, exits("the launcher is not in there, and does not start", 200, 203, 226)),
		keeps(service, "EnvironmentFile", nil, results("systemd cannot read that, and does not start the launcher", "resources")),
		keeps(service, "StandardInput", []string{"StandardOutput", "StandardError"}, either(
			exits("systemd cannot open that, and the launcher does not start", 208, 209, 222),
			results("systemd cannot open that, and does not start the launcher", "resources"),
		)),
		keeps(service, "ExecStartPre", []string{"ExecCondition"}, results("it fails, and the launcher does not start", "exit-code", "signal", "timeout", "exec-condition")),
		keeps(service, "ExecStartPost", nil, func(now systemd.Properties, _ map[string][]string) string {
			// The launcher runs still, or has ended well when it was told to: it is not what has failed.
			if now.Int("ExecMainCode") <= 1 && now.Int("ExecMainStatus") == 0 && slices.Contains([]string{"exit-code", "signal", "timeout"}, now["Result"]) {
				return "it fails, and systemd ends the launcher again"
			}
			return ""
		}),
		keeps(service, "Requires", needs, lacks),
		keeps(socket, "Requires", needs, lacks),
		keeps(socket, "TriggerLimitBurst", []string{"TriggerLimitIntervalSec"}, results("clients have started the launcher more often, and systemd has closed the port", triggerLimit)),
		keeps(service, "Group", []string{"SupplementaryGroups"}, exits("there is no such group, and the launcher does not start", 216)),
		keeps(service, "AmbientCapabilities", []string{"CapabilityBoundingSet"}, exits("it may not have these, and the launcher does not start", 218)),
		keeps(service, "ReadWritePaths", []string{
			"ReadOnlyPaths", "InaccessiblePaths", "ExecPaths", "NoExecPaths", "BindPaths", "BindReadOnlyPaths", "TemporaryFileSystem", "MountImages", "ExtensionImages", "ExtensionDirectories",
		}, exits("systemd cannot make that of the file system, and the launcher does not start", 226)),
		keeps(service, "SystemCallFilter", []string{"SystemCallArchitectures"}, func(now systemd.Properties, _ map[string][]string) string {
			if code := now.Int("ExecMainCode"); code > 1 && now.Int("ExecMainStatus") == int(unix.SIGSYS) || code == 1 && now.Int("ExecMainStatus") == 228 {
				return "the launcher needs a system call that it forbids, and does not come up"
			}
			return ""
		}),
		keeps(service, "LoadCredential", []string{"LoadCredentialEncrypted", "SetCredentialEncrypted", "ImportCredential"}, exits("it is not there, and the launcher does not start", 243)),
		keeps(service, anyCondition, []string{anyAssertion}, unmet),
		keeps(socket, anyCondition, []string{anyAssertion}, unmet),
		keeps(socket, "Service", nil, func(now systemd.Properties, _ map[string][]string) string {
			if own := strings.TrimSuffix(now["Id"], socket) + service; now["Triggers"] != "" && !slices.Contains(now.List("Triggers"), own) {
				return "clients start " + say.List(now.List("Triggers")) + ", and not the launcher"
			}
			return ""
		}),
		keeps(socket, "BindToDevice", nil, func(now systemd.Properties, _ map[string][]string) string {
			if now["BindToDevice"] == "" {
				return ""
			}
			return results("if there is no such device, nothing opens the port", "resources")(now, nil)
		}),
		keeps(socket, "ExecStartPre", []string{"ExecStartPost"}, results("it fails, and the port is not opened", "exit-code", "signal", "timeout")),
	}
}

// exits says what a status means with which systemd's own part of a service ends (systemd.exec(5)).
func exits(does string, statuses ...int) effect {
	return func(now systemd.Properties, _ map[string][]string) string {
		if now["ExecMainCode"] == "1" && slices.Contains(statuses, now.Int("ExecMainStatus")) { // CLD_EXITED
			return does
		}
		return ""
	}
}

// results says what a result means of a unit that has not come as far as to start its main process.
func results(does string, all ...string) effect {
	return func(now systemd.Properties, _ map[string][]string) string {
		if now.Int("ExecMainCode") == 0 && slices.Contains(all, now["Result"]) {
			return does
		}
		return ""
	}
}

func either(all ...effect) effect {
	return func(now systemd.Properties, own map[string][]string) string {
		for _, does := range all {
			if said := does(now, own); said != "" {
				return said
			}
		}
		return ""
	}
}

// needs are the lines that say what else has to be up for a unit, besides Requires= (systemd.unit(5)).
var needs = []string{"BindsTo", "Requisite"}

func lacks(now systemd.Properties, _ map[string][]string) string {
	lacking := Lacking(now)
	if len(lacking) == 0 {
		return ""
	}
	return fmt.Sprintf("systemd does not start %s without %s", now["Id"], say.List(lacking))
}

// Lacking are the units without which systemd does not start one of ours, each with its state; our own socket is a matter of its own.
func Lacking(now systemd.Properties) (units []string) {
	for _, unit := range now.List("Lacks") {
		if !strings.HasPrefix(unit, strings.TrimSuffix(now["Id"], service)+socket+" ") {
			units = append(units, say.Printable(unit))
		}
	}
	return units
}

func unmet(now systemd.Properties, _ map[string][]string) string {
	if at := now["ConditionTimestampMonotonic"]; at == "" || at == "0" || now["ActiveState"] != "inactive" || now["ConditionResult"] != "no" && now["AssertResult"] != "no" {
		return ""
	}
	return "it does not hold, and systemd does not start " + now["Id"]
}

// Undecided reports whether systemd is at another try of a service, and does not tell meanwhile how the last one ended.
func Undecided(now systemd.Properties) bool {
	if now["ActiveState"] != "activating" || strings.HasPrefix(now["SubState"], "auto-restart") {
		return false
	}
	return now.Int("NRestarts") > 0 || slices.Contains([]string{"condition", "start-pre"}, now["SubState"])
}

// HasEnded reports whether this was said of a service after the end of its main process, or of a command before that, and before
// the next start.
func HasEnded(said systemd.Properties) bool {
	result := said["Result"]
	return said.Int("ExecMainCode") != 0 || result != "" && result != "success"
}

// Ended makes of what is said of a service while systemd starts it again what was said of it at its end.
func Ended(service, said systemd.Properties) {
	maps.Copy(service, said)
	service["ActiveState"], service["SubState"] = "activating", "auto-restart"
}
