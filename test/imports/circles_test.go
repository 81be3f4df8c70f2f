package imports

import (
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// downwards are the packages that are read from their first file down.
var downwards = []string{"cmd/gateway", "cmd/gateway/launcher"}

// largestCircle is how many files may refer to each other in a circle: two can be read as one.
const largestCircle = 2

// TestCircles: in a package that is read downwards, what a file refers to does not refer back to it.
func TestCircles(t *testing.T) {
	exports := map[string]string{}
	packages := list(t, "-export", "-deps", "../../cmd/gateway")
	for _, p := range packages {
		exports[p.ImportPath] = p.Export
	}
	fset := token.NewFileSet()
	known := importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	for _, here := range downwards {
		i := slices.IndexFunc(packages, func(p listed) bool { return p.ImportPath == module+"/"+here })
		if i < 0 {
			t.Fatalf("there is no %s", here)
		}
		var files []*ast.File
		for _, name := range packages[i].GoFiles {
			file, err := parser.ParseFile(fset, filepath.Join(packages[i].Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, file)
		}
		info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
		checked, err := (&types.Config{Importer: known}).Check(packages[i].ImportPath, fset, files, info)
		if err != nil {
			t.Fatal(err)
		}
		reach := references(fset, checked, info)
		if len(reach) < 2 {
			t.Errorf("%s: no file refers to another: the test has lost its subject", here)
		}
		for _, circle := range circles(reach) {
			if len(circle) > largestCircle {
				t.Errorf("%s: these refer to each other in a circle: %s", here, strings.Join(circle, ", "))
			}
		}
	}
}

// references are the files of a package that each of them refers to, directly or through others.
func references(fset *token.FileSet, p *types.Package, info *types.Info) map[string]map[string]bool {
	file := func(at token.Pos) string { return filepath.Base(fset.Position(at).Filename) }
	reach := map[string]map[string]bool{}
	for use, what := range info.Uses {
		if what.Pkg() != p || !declared(what, p) || file(use.Pos()) == file(what.Pos()) {
			continue
		}
		if reach[file(use.Pos())] == nil {
			reach[file(use.Pos())] = map[string]bool{}
		}
		reach[file(use.Pos())][file(what.Pos())] = true
	}
	for through := range reach {
		for from := range reach {
			if !reach[from][through] {
				continue
			}
			for to := range reach[through] {
				reach[from][to] = true
			}
		}
	}
	return reach
}

// declared reports whether it stands in a file of the package by itself, and is not local to a function.
func declared(what types.Object, p *types.Package) bool {
	switch what := what.(type) {
	case *types.Var:
		return what.IsField() || what.Parent() == p.Scope()
	case *types.Func:
		return true
	default:
		return what.Parent() == p.Scope()
	}
}

// circles are the largest groups of files of which each reaches each other one.
func circles(reach map[string]map[string]bool) (all [][]string) {
	seen := map[string]bool{}
	for from := range reach {
		if seen[from] || !reach[from][from] {
			continue
		}
		var circle []string
		for to := range reach[from] {
			if reach[to][from] {
				circle, seen[to] = append(circle, to), true
			}
		}
		slices.Sort(circle)
		all = append(all, circle)
	}
	return all
}
