package systemd

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/godbus/dbus/v5"

	"openclaw-gateway/cmd/gateway/asuser"
)

// Properties is what a manager says of a unit, as systemctl show prints it: "yes" and "no", numbers in digits. A list has a
// line for each of its elements; see List, and Listen for that one. ExecStart is the argv of the first command, and for all of
// them, and the prefixes, there is ExecStartEx; see Commands. EnvironmentFiles are as they stand behind EnvironmentFile=. JobType,
// which systemctl show does not have, is what the unit's pending job is about: start, stop, restart. Lacks, which it does not have
// either, is of a unit that is not up: without what it cannot start, as "db.service (failed)".
type Properties map[string]string

// Exec is a command of a service, with specifiers expanded and variables not (systemd.service(5), "Command lines").
type Exec struct {
	Path  string
	Argv  []string
	Flags []string // for its prefixes: ignore-failure, privileged, no-setuid, no-env-expand, via-shell
}

// Commands is a property such as ExecStartEx.
func (p Properties) Commands(name string) (commands []Exec) {
	for _, line := range p.List(name) {
		var command Exec
		if json.Unmarshal([]byte(line), &command) == nil {
			commands = append(commands, command)
		}
	}
	return commands
}

// Int is a property that is a number; 0 where it is not.
func (p Properties) Int(name string) int {
	n, _ := strconv.Atoi(p[name])
	return n
}

// List is a property that is a list; nil where it is empty.
func (p Properties) List(name string) []string {
	if p[name] == "" {
		return nil
	}
	if list, ok := strings.CutSuffix(p[name], listEnd); ok {
		return strings.Split(list, listEnd)
	}
	return strings.Split(p[name], "\n")
}

// listEnd is behind each element of a list of which one has a line break: a variable of Environment=, say. No text of systemd's
// has it.
const listEnd = "\x00"

// joined is what [Properties.List] splits.
func joined(list []string) string {
	if slices.ContainsFunc(list, func(element string) bool { return strings.Contains(element, "\n") }) {
		return strings.Join(list, listEnd) + listEnd
	}
	return strings.Join(list, "\n")
}

// request is what a manager is asked.
type request struct {
	UID        int // of a user's manager
	Names      []string
	Properties []string
	Files      bool // a pattern stands for units that are not up, too
}

// asOther is root's question to the manager of another user, which answers nobody else (it hangs up with EPERM, measured
// with 252).
var asOther = asuser.Question[request, []Properties]{Name: "systemd.show", Limit: 1500 * time.Millisecond, Memory: 24 << 20}

func init() {
	asOther.Answer(func(ctx context.Context, r request) ([]Properties, error) {
		return Manager{User: true, UID: r.UID}.show(ctx, r)
	})
}

// Show returns properties of units, in the order of the names; a pattern such as *.service stands for all units that match
// and are up. A unit that does not exist has LoadState not-found. A machine without systemd, a user without a manager, one
// that does not answer in time, and a user's manager that the caller may not ask are errors.
func (m Manager) Show(ctx context.Context, names []string, properties ...string) ([]Properties, error) {
	return m.question(ctx, request{UID: m.UID, Names: names, Properties: properties})
}

// ShowAll is [Manager.Show] where a pattern stands for all units that match and are loaded or have a file, each once.
func (m Manager) ShowAll(ctx context.Context, names []string, properties ...string) ([]Properties, error) {
	return m.question(ctx, request{UID: m.UID, Names: names, Properties: properties, Files: true})
}

func (m Manager) question(ctx context.Context, r request) ([]Properties, error) {
	if !m.User || os.Geteuid() != 0 || m.UID == 0 {
		return m.show(ctx, r)
	}
	credential, err := Credential(m.UID)
	if err != nil {
		return nil, err
	}
	return asOther.Ask(ctx, credential, r)
}

func (m Manager) show(ctx context.Context, r request) ([]Properties, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	all, err := m.ask(ctx, r)
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("no answer in time: %w", ctx.Err())
		}
		return nil, fmt.Errorf("ask systemd for %s: %w", strings.Join(r.Names, " "), err)
	}
	return all, nil
}

func (m Manager) ask(ctx context.Context, r request) ([]Properties, error) {
	conn, err := m.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	var all []Properties
	for _, name := range r.Names {
		paths := []dbus.ObjectPath{unitPath(name)}
		if strings.ContainsAny(name, "*?[") {
			if paths, err = matching(ctx, conn, name, r.Files); err != nil {
				return nil, err
			}
		}
		for _, path := range paths {
			unit, err := properties(ctx, conn, path, r.Properties)
			if err != nil {
				return nil, err
			}
			all = append(all, unit)
		}
	}
	return all, nil
}

// matching returns the units that match a pattern and are neither inactive nor failed; with files, all that there are.
func matching(ctx context.Context, conn *dbus.Conn, pattern string, files bool) ([]dbus.ObjectPath, error) {
	states := []string{"active", "reloading", "activating", "deactivating", "refreshing"}
	if files {
		states = []string{}
	}
	units, err := listed(ctx, conn, "ListUnitsByPatterns", states, []string{pattern})
	paths := make([]dbus.ObjectPath, len(units))
	for i, unit := range units {
		paths[i] = unit.Path
	}
	if !files || err != nil {
		return paths, err
	}
	var onDisk []struct{ Path, State string }
	err = conn.Object(managerName, "/org/freedesktop/systemd1").
		CallWithContext(ctx, managerName+".Manager.ListUnitFilesByPatterns", 0, []string{}, []string{pattern}).Store(&onDisk)
	for _, file := range onDisk {
		if path := unitPath(filepath.Base(file.Path)); !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	return paths, err
}

// listedUnit is a line of systemctl list-units.
type listedUnit struct {
	Name, Description, Load, Active, Sub, Following string
	Path                                            dbus.ObjectPath
	Job                                             uint32
	JobType                                         string
	JobPath                                         dbus.ObjectPath
}

func listed(ctx context.Context, conn *dbus.Conn, method string, arguments ...any) (units []listedUnit, err error) {
	err = conn.Object(managerName, "/org/freedesktop/systemd1").CallWithContext(ctx, managerName+".Manager."+method, 0, arguments...).Store(&units)
	return units, err
}

// interfaces has where some properties are, which are asked for one by one: all those of a service are some hundred, and
// systemd reads files for them.
var interfaces = map[string]string{
	"Id": ".Unit", "ActiveState": ".Unit", "UnitFileState": ".Unit", "TriggeredBy": ".Unit", "MainPID": ".Service", "ControlGroup": ".Service",
}

// properties asks for properties of a unit, which it loads for that. What the unit's type does not have is left out.
func properties(ctx context.Context, conn *dbus.Conn, path dbus.ObjectPath, names []string) (Properties, error) {
	object, unit := conn.Object(managerName, path), Properties{}
	if slices.ContainsFunc(names, func(name string) bool { return interfaces[name] == "" }) {
		var all map[string]dbus.Variant
		// "" asks for those of all the unit's interfaces.
		if err := object.CallWithContext(ctx, "org.freedesktop.DBus.Properties.GetAll", 0, "").Store(&all); err != nil {
			return nil, err
		}
		for _, name := range names {
			if value, ok := all[name]; ok {
				unit[name] = text(name, value.Value())
			}
		}
		if slices.Contains(names, "JobType") {
			unit["JobType"] = jobType(ctx, conn, all["Job"].Value())
		}
		if slices.Contains(names, "Lacks") {
			unit["Lacks"] = joined(lacks(ctx, conn, all))
		}
		return unit, nil
	}
	for _, name := range names {
		var value dbus.Variant
		err := object.CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, managerName+interfaces[name], name).Store(&value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		unit[name] = text(name, value.Value())
	}
	return unit, nil
}

// jobType is that of a unit's Job, which has a number and a path; "" where there is none, or it is done.
func jobType(ctx context.Context, conn *dbus.Conn, job any) (kind string) {
	fields, _ := job.([]any)
	if len(fields) != 2 {
		return ""
	}
	if path, ok := fields[1].(dbus.ObjectPath); ok && fields[0] != uint32(0) {
		_ = conn.Object(managerName, path).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, managerName+".Job", "JobType").Store(&kind)
	}
	return kind
}

// lacks are the units that another one needs (Requires= and its like, systemd.unit(5)), and that are not loaded or have failed. systemd keeps
// no note of a start that came to nothing because of them.
func lacks(ctx context.Context, conn *dbus.Conn, all map[string]dbus.Variant) (lacking []string) {
	if state := all["ActiveState"].Value(); state != "inactive" && state != "failed" {
		return nil
	}
	for _, kind := range []string{"Requires", "BindsTo", "Requisite"} {
		needs, _ := all[kind].Value().([]string)
		if len(needs) == 0 {
			continue
		}
		units, err := listed(ctx, conn, "ListUnitsByNames", needs)
		if err != nil {
			return nil
		}
		for _, unit := range units {
			switch {
			case unit.Load != "loaded":
				lacking = append(lacking, fmt.Sprintf("%s (%s)", unit.Name, unit.Load))
			case unit.Active == "failed", unit.Active == "inactive" && kind == "Requisite":
				lacking = append(lacking, fmt.Sprintf("%s (%s)", unit.Name, unit.Active))
			}
		}
	}
	return lacking
}

// text writes the value of a property: org.freedesktop.systemd1(5) has their types.
func text(name string, value any) string {
	switch value := value.(type) {
	case string:
		return value
	case bool:
		if value {
			return "yes"
		}
		return "no"
	case int32, uint32, uint64:
		return fmt.Sprint(value)
	case []string:
		return joined(value)
	case [][]any:
		return structs(name, value)
	case []any:
		return filter(value)
	}
	return ""
}

// filter writes a list of what alone is allowed, or is not, as a unit file has it: RestrictAddressFamilies= in systemd.exec(5). ""
// where all is allowed, "none" where nothing is.
func filter(value []any) string {
	if len(value) != 2 {
		return ""
	}
	alone, isFilter := value[0].(bool)
	list, _ := value[1].([]string)
	switch {
	case !isFilter:
		return ""
	case alone && len(list) == 0:
		return "none"
	case alone || len(list) == 0:
		return strings.Join(list, " ")
	}
	return "~" + strings.Join(list, " ")
}

// structs writes a list of structures. Listen has the kind and the address of each, ExecStart the path and the argv, ExecStartEx
// the flags besides, EnvironmentFiles the path and whether the file may be missing.
func structs(name string, list [][]any) string {
	var lines []string
	for _, fields := range list {
		if len(fields) < 2 {
			continue
		}
		first, _ := fields[0].(string)
		switch second := fields[1].(type) {
		case string:
			if name == "Listen" {
				lines = append(lines, fmt.Sprintf("%s (%s)", address(second), first))
			}
		case []string:
			if name == "ExecStart" {
				return joined(second)
			}
			if strings.HasSuffix(name, "Ex") && len(fields) > 2 {
				flags, _ := fields[2].([]string)
				line, _ := json.Marshal(Exec{first, second, flags}) // of strings alone
				lines = append(lines, string(line))
			}
		case bool:
			if second {
				first = "-" + first
			}
			lines = append(lines, first)
		}
	}
	return strings.Join(lines, "\n")
}

// address undoes what systemd does to the path of a unix socket (cescape, in its sockaddr_pretty): quotes, backslashes and what is
// not ASCII come as in a string of C. A path with a control character stays so, as it would make lines of its own.
func address(escaped string) string {
	// A ' needs its backslash in a character constant of Go's only.
	path, err := strconv.Unquote(`"` + strings.ReplaceAll(escaped, `\'`, "'") + `"`)
	if err != nil || strings.ContainsFunc(path, unicode.IsControl) {
		return escaped
	}
	return path
}

// unitPath is where the manager has a unit, loaded or not; see sd_bus_path_encode(3).
func unitPath(name string) dbus.ObjectPath {
	var b strings.Builder
	b.WriteString("/org/freedesktop/systemd1/unit/")
	for i, c := range []byte(name) {
		letter, digit := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z', '0' <= c && c <= '9'
		if letter || digit && i > 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return dbus.ObjectPath(b.String())
}
