package dotenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"openclaw-gateway/cmd/gateway/asuser"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/openclaw"
	"openclaw-gateway/cmd/gateway/openclaw/commandline"
	"openclaw-gateway/cmd/gateway/systemd"
)

// act is what is done with a file.
type act string

const (
	look    act = "look"
	set     act = "set"
	takeOut act = "take out"
)

type question struct {
	Act  act
	File File
}

// asOwner is asked by root about another user's file.
var asOwner = asuser.Question[question, State]{Name: "dotenv", Limit: 5 * time.Second, Memory: 32 << 20, Written: 2 * limit}

func init() {
	asOwner.Answer(func(_ context.Context, q question) (State, error) { return q.File.do(q.Act) })
}

func (f File) do(what act) (State, error) {
	switch what {
	case set:
		return f.set()
	case takeOut:
		return f.takeOut()
	default:
		return f.look()
	}
}

// as does something with the file as the user whose it is.
func (f File) as(ctx context.Context, what act) (State, error) {
	me := os.Geteuid()
	switch {
	case f.UID == me:
		return f.do(what)
	case me != 0:
		return State{}, fmt.Errorf("%s is user %s's: run this as that user or as root", f.Path, systemd.UserName(f.UID))
	}
	credential, err := systemd.Credential(f.UID)
	if err != nil {
		return State{}, err
	}
	return asOwner.Ask(ctx, credential, question{what, f})
}

// Gateway is an OpenClaw gateway, as far as it says where its state is.
type Gateway struct {
	UID         int // that it has
	Home        string
	Environment []string // NAME=value; of one name the last counts
	Command     []string // its own, without what it goes through; none where it is no gateway
	Unread      bool     // what it goes through may say elsewhere where its state is
}

// GatewayOf is the gateway that the worker of a configuration is, for the user who has it. Of the owners see
// [config.ReadEnvironmentFile].
func GatewayOf(worker config.Worker, uid int, home string, owners ...int) Gateway {
	g := Gateway{UID: uid, Home: home}
	if path := worker.EnvironmentFile; path != "" {
		// What is wrong with it, doctor and the launcher say.
		g.Environment, _, _ = config.ReadEnvironmentFile(path, owners...)
	}
	g.Environment = append(g.Environment, worker.Environment...)
	way, _ := commandline.Gateway(worker.Command, append([]string{"HOME=" + home}, g.Environment...))
	if way.Unread && slices.ContainsFunc(g.Environment, func(entry string) bool { return strings.HasPrefix(entry, "OPENCLAW_STATE_DIR=") }) {
		way.Unread, way.Set = false, nil // somebody has said it here as well
	}
	g.Command, g.Environment, g.Unread = way.Words, append(g.Environment, way.Set...), way.Unread
	return g
}

// ErrUnknown says that it cannot be told where an OpenClaw has its state.
var ErrUnknown = errors.New("where OpenClaw has its state is not known: name that directory, as an absolute path, by OPENCLAW_STATE_DIR in worker.environment")

// told is the answer of find, which may come from another process.
func told(f File, err error) (File, error) {
	if err == nil && f.Path == "" {
		err = ErrUnknown
	}
	return f, err
}

// Configured returns the .env of the OpenClaw that a launcher's configuration has it run, for the user who has the launcher. It fails
// where it runs none, and with ErrUnknown where that cannot be told.
func Configured(ctx context.Context, path string, uid int) (File, error) {
	c := configured{path, uid, systemd.HomeOf(uid)}
	if os.Geteuid() != 0 || uid == 0 {
		return told(c.find())
	}
	credential, err := systemd.Credential(uid)
	if err != nil {
		return File{}, err
	}
	return told(configuredAsOwner.Ask(ctx, credential, c))
}

type configured struct {
	Path string
	UID  int
	Home string
}

var configuredAsOwner = asuser.Question[configured, File]{Name: "dotenv.configured", Limit: 5 * time.Second, Memory: 96 << 20}

func init() {
	configuredAsOwner.Answer(func(_ context.Context, c configured) (File, error) { return c.find() })
}

func (c configured) find() (File, error) {
	settings, err := config.Load(c.Path)
	if err != nil {
		return File{}, err
	}
	g := GatewayOf(settings.Worker, c.UID, c.Home)
	if len(g.Command) == 0 {
		return File{}, fmt.Errorf("worker.command of %s starts no OpenClaw", c.Path)
	}
	return g.find(), nil
}

var findAsOwner = asuser.Question[Gateway, File]{Name: "dotenv.find", Limit: 5 * time.Second, Memory: 24 << 20}

func init() {
	findAsOwner.Answer(func(_ context.Context, g Gateway) (File, error) { return g.find(), nil })
}

// Find returns the .env of a gateway's state directory, which need not be there; ErrUnknown where it cannot be told.
func Find(ctx context.Context, g Gateway) (File, error) {
	if os.Geteuid() != 0 || g.UID == 0 {
		return told(g.find(), nil)
	}
	credential, err := systemd.Credential(g.UID)
	if err != nil {
		return File{}, err
	}
	// What it is asked for is in no other variable, and some are secrets.
	g.Environment = slices.DeleteFunc(slices.Clone(g.Environment), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return !slices.Contains(openclaw.Places(), name)
	})
	return told(findAsOwner.Ask(ctx, credential, g))
}

// find returns none where it cannot be told.
func (g Gateway) find() File {
	folder := openclaw.StateDir(g.Home, g.Environment, g.Command)
	if folder == "" || g.Unread {
		return File{}
	}
	f := File{Path: filepath.Join(folder, ".env"), UID: g.UID}
	if home := filepath.Dir(folder); folder == filepath.Join(home, ".openclaw") {
		f.Second = filepath.Join(home, ".config/openclaw/gateway.env")
	}
	return f
}
