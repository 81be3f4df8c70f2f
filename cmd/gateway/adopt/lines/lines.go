// Package lines decides on each line of the old unit: into our drop-ins as it was, or not, and why.
package lines

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"openclaw-gateway/cmd/gateway/dropins"
	"openclaw-gateway/cmd/gateway/openclaw"
	"openclaw-gateway/cmd/gateway/openclaw/commandline"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/lazy"
)

// Note is something of the old unit, and what becomes of it.
type Note struct {
	What string // such as MemoryMax=2G, or the name of a variable; never a secret
	Why  string
}

// Carried is what becomes of the lines of a unit.
type Carried struct {
	Unit, Service, Socket []string // lines of the drop-ins, of [Unit], [Service] and [Socket]
	Kept, Lost            []Note
}

// Words for why a line is not carried over.
const (
	byLauncher = "the launcher restarts its worker itself, without a start limit"
	ownWay     = "the launcher's unit has a value of its own, which it needs"
	saysReady  = "the launcher says itself when its worker serves"
	byConfig   = "" // it has become a line of the configuration, which says so
	harmless   = "it is about the old unit alone"
)

// fates are the settings that are not carried over, and why; an empty reason stands for what is told elsewhere. Whatever is
// not here goes into the drop-in as it was: limits, resources, sandbox, credentials, and what later versions of systemd have.
var fates = map[string]string{
	"ExecStart": byConfig, "Environment": byConfig, "EnvironmentFile": byConfig, "WorkingDirectory": byConfig, "User": byConfig,
	"TimeoutStopSec": byConfig, "KillSignal": byConfig, "RestartPreventExitStatus": byConfig,

	"Restart": byLauncher, "RestartSec": byLauncher, "RestartSteps": byLauncher, "RestartMaxDelaySec": byLauncher, "RestartMode": byLauncher,
	"RestartForceExitStatus": byLauncher, "StartLimitIntervalSec": byLauncher, "StartLimitInterval": byLauncher, "StartLimitBurst": byLauncher,
	"StartLimitAction": "there is no start limit that could be reached", "SuccessExitStatus": "what an exit code means is said by restart.fatal_exit_codes and restart.after_exit_0",
	"FailureAction": "the launcher's unit does not fail: alarm.command of the configuration is run instead", "SuccessAction": "the launcher's unit does not end by itself",
	"OnFailure":        "the launcher's unit does not fail: alarm.command of the configuration is run instead",
	"OnFailureJobMode": harmless, "OnSuccess": "the launcher's unit does not end by itself",

	"Type": saysReady, "NotifyAccess": saysReady, "PIDFile": saysReady, "BusName": saysReady, "RemainAfterExit": saysReady, "GuessMainPID": saysReady,
	"TimeoutStartSec": "ready.timeout of the configuration says how long a start may take", "TimeoutSec": byConfig, "ExitType": ownWay,
	"TimeoutStartFailureMode": ownWay, "TimeoutStopFailureMode": ownWay, "TimeoutAbortSec": ownWay,
	"WatchdogSec": "the launcher has one of its own, and finds out itself whether its worker serves (alive)", "WatchdogSignal": ownWay,
	"RuntimeMaxSec": "the launcher has no end: `gateway restart` in a timer does the same", "RuntimeRandomizedExtraSec": "the launcher has no end",

	"KillMode": "another one than mixed would break the launcher's stop", "SendSIGKILL": ownWay, "SendSIGHUP": ownWay, "FinalKillSignal": ownWay, "RestartKillSignal": ownWay,
	"OOMPolicy": "when the kernel kills a process of the worker, the launcher decides what follows", "Delegate": "the launcher needs Delegate=yes: each generation has a control group of its own",
	"DelegateSubgroup":     "the launcher makes its control groups itself",
	"ProtectControlGroups": "with it no generation could get its control group", "ProtectControlGroupsEx": "with it no generation could get its control group",
	"PrivatePIDs":          "with it nobody outside could tell launcher and worker apart",
	"PAMName":              "a session of PAM's would be outside of the unit's control group",
	"RuntimeDirectoryMode": ownWay, "StateDirectoryMode": ownWay, "CacheDirectoryMode": ownWay, "RuntimeDirectoryPreserve": ownWay,
	"NonBlocking": ownWay, "Sockets": "ours has a socket of its own", "FileDescriptorStoreMax": ownWay, "FileDescriptorStorePreserve": ownWay, "RefuseManualStart": ownWay, "RefuseManualStop": ownWay,
	"StopWhenUnneeded": "clients need it, whatever else does", "StandardInput": "a worker has no standard input", "TTYPath": "a worker has no terminal", "TTYReset": "a worker has no terminal",
	"TTYVHangup": "a worker has no terminal", "DynamicUser": byConfig,

	"ExecStop": "the launcher stops its worker by stop.signal", "ExecReload": "systemctl reload asks the launcher",
	"Description": byConfig, "Documentation": byConfig, "SourcePath": byConfig, "Alias": "ours has no second name", "DefaultInstance": harmless,
}

// A condition that is not met would have systemd try again and again for a waiting client.
const condition = "a start that it skips would be tried again and again for a client that waits"

// ofSocket are settings that systemd applies to the sockets that a unit has opened itself: those of ours are the socket unit's
// (systemd.resource-control(5)).
var ofSocket = []string{"IPAddressAllow", "IPAddressDeny", "IPIngressFilterPath", "IPEgressFilterPath", "RestrictNetworkInterfaces"}

// enders are programs that end whoever holds a port, or a process by its name, and OpenClaw's own, whose service it may be about:
// the port is systemd's now, and to end systemd would be the end of everything.
var enders = append(openclaw.Names(), "fuser", "pkill", "killall", "kill", "systemctl")

// ends reports whether a command line runs one of them, by a shell perhaps.
func ends(line string) bool {
	words := commandline.Split(strings.TrimLeft(line, "-@:+!|"))
	if len(words) == 0 {
		return false
	}
	if inner := commandline.InShell(words); inner != nil {
		words = inner
	}
	begins := true
	for _, word := range words {
		name := filepath.Base(word)
		if begins && slices.Contains(enders, name) || commandline.GatewayAt([]string{word, "gateway"}) == 0 && begins {
			return true
		}
		begins = strings.Contains(";&|()", word) || slices.Contains([]string{"xargs", "sudo", "env", "exec", "then", "do", "!", "-", "timeout"}, name) ||
			begins && (strings.HasPrefix(word, "-") || strings.Contains(word, "="))
	}
	return false
}

// asOurs are lines that say what our unit says, or what is so where nothing is said.
var asOurs = []string{
	"Type=simple", "Type=exec", "Type=notify", "KillMode=mixed", "OOMPolicy=continue", "Delegate=yes", "ProtectControlGroups=no", "SendSIGKILL=yes", "NonBlocking=no", "DynamicUser=no",
	"RemainAfterExit=no", "PrivatePIDs=no",
}

// Carry decides on the lines of a unit's files, in the order in which systemd reads them.
func Carry(lines []dropins.Assignment, oldUnit string) (c Carried) {
	specifiers := unitSpecifiers(oldUnit)
	addresses := []string{}
	note := func(list *[]Note, a dropins.Assignment, why string) {
		what := a.Name + "=" + shownValue(a)
		for i := range *list {
			if (*list)[i].What == what {
				return
			}
		}
		*list = append(*list, Note{What: what, Why: why})
	}
	effective := map[string]int{}
	for i, a := range lines {
		effective[a.Section+"/"+a.Name] = i
	}
	for i, a := range lines {
		if strings.HasPrefix(a.Name, "X-") || strings.HasPrefix(a.Section, "X-") {
			continue
		}
		last := effective[a.Section+"/"+a.Name] == i
		why, known := fates[a.Name]
		if strings.HasPrefix(a.Name, "Condition") || strings.HasPrefix(a.Name, "Assert") || a.Name == "ExecCondition" {
			why, known = condition, true
		}
		if strings.HasPrefix(a.Name, "ExecSt") && !known && ends(a.Value) {
			why, known = "it ends whoever holds the port, or what is OpenClaw's: the port is systemd's now, and the launcher ends what is left", true
		}
		switch {
		case a.Section == "Install" && a.Name != "Alias", slices.Contains(asOurs, a.Name+"="+a.Value):
			continue
		case known && why == byConfig, known && a.Value == "":
			continue
		case known && (last || strings.HasPrefix(a.Name, "Exec") || strings.HasPrefix(a.Name, "On")):
			note(&c.Lost, a, why)
			continue
		case known:
			continue
		}
		line := a.Name + "=" + specifiers.Replace(a.Value)
		switch a.Section {
		case "Unit":
			if slices.Contains(ordinary, a.Name+"="+a.Value) {
				continue // ours has them
			}
			c.Unit = append(c.Unit, line)
		case "Service":
			if a.Name == "CapabilityBoundingSet" && a.Value != "" && !strings.HasPrefix(a.Value, "~") && !slices.Contains(c.Service, "CapabilityBoundingSet=") {
				c.Service = append(c.Service, "CapabilityBoundingSet=") // or it would be added to what ours leaves
			}
			c.Service = append(c.Service, line)
			if slices.Contains(ofSocket, a.Name) {
				c.Socket = append(c.Socket, line)
			}
			if a.Name == "RestrictAddressFamilies" {
				addresses = append(addresses, a.Value)
			}
		default:
			note(&c.Lost, a, fmt.Sprintf("a service has no section [%s]", a.Section))
			continue
		}
		if a.Value != "" {
			switch {
			case strings.HasPrefix(a.Name, "Exec"):
				note(&c.Kept, a, "it is run for the launcher now, not again for each worker, and without the variables of the environment file")
			case slices.Contains(ofSocket, a.Name):
				note(&c.Kept, a, "in the socket unit as well, whose it is to open the port")
			default:
				note(&c.Kept, a, "")
			}
		}
	}
	if families := lacking(addresses); len(families) > 0 {
		c.Service = append(c.Service, "# The launcher needs these: its control socket, and the kernel's table of sockets.", "RestrictAddressFamilies="+strings.Join(families, " "))
		c.Kept = append(c.Kept, Note{What: "RestrictAddressFamilies=" + strings.Join(families, " "), Why: "added: the launcher needs them"})
	}
	return c
}

// ordinary are lines of [Unit] that ours has as well, or that a socket makes unnecessary.
var ordinary = []string{
	"After=network-online.target", "Wants=network-online.target", "After=network.target", "Wants=network.target", "After=network.target network-online.target",
	"After=network-online.target network.target",
}

// lacking are the address families that the launcher needs and a list of allowed ones does not have.
func lacking(values []string) (families []string) {
	allowed, restricted := map[string]bool{}, false
	for _, value := range values {
		switch {
		case value == "":
			allowed, restricted = map[string]bool{}, false
			continue
		case strings.HasPrefix(value, "~"):
			if !restricted {
				return nil // all but these
			}
			for _, family := range strings.Fields(value[1:]) {
				delete(allowed, family)
			}
			continue
		}
		restricted = true
		for _, family := range strings.Fields(value) {
			allowed[family] = true
		}
	}
	for _, family := range []string{"AF_UNIX", "AF_NETLINK"} {
		if restricted && !allowed[family] {
			families = append(families, family)
		}
	}
	return families
}

// shownValue is the value of a line for people, without what may be a secret.
func shownValue(a dropins.Assignment) string {
	switch {
	case a.Name == "Environment", a.Name == "SetCredential", a.Name == "SetCredentialEncrypted":
		name, _, _ := strings.Cut(a.Value, ":")
		return name + ":***"
	case strings.HasPrefix(a.Name, "Exec"):
		return say.CommandLine(commandline.Words(a.Value))
	}
	return say.Cut(say.Masked(a.Value), 120)
}

// unitSpecifiers puts what the specifiers of a unit's name have meant into a line of a unit of another name (systemd.unit(5)).
func unitSpecifiers(unit string) *strings.Replacer {
	name := strings.TrimSuffix(unit, filepath.Ext(unit))
	prefix, instance, _ := strings.Cut(name, "@")
	last := prefix[strings.LastIndex(prefix, "-")+1:]
	escape := func(text string) string { return strings.ReplaceAll(text, "%", "%%") }
	return strings.NewReplacer("%%", "%%",
		"%n", escape(unit), "%N", escape(name), "%p", escape(prefix), "%P", escape(unescaped(prefix)), "%i", escape(instance), "%I", escape(unescaped(instance)),
		"%j", escape(last), "%J", escape(unescaped(last)),
	)
}

// unescaped undoes systemd-escape(1).
func unescaped(text string) string {
	text = strings.ReplaceAll(text, "-", "/")
	return escapedByte().ReplaceAllStringFunc(text, func(code string) string {
		var b byte
		if _, err := fmt.Sscanf(code, `\x%02x`, &b); err != nil {
			return code
		}
		return string([]byte{b})
	})
}

var escapedByte = lazy.Regexp(`\\x[0-9a-f]{2}`)
