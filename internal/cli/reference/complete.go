package reference

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	cliv2 "github.com/urfave/cli/v2"

	clusterdv1 "clusterd/api/clusterd/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/internal/cli/console"
)

// Somebody waits at a prompt: after this time nothing is offered. $CLUSTERD_COMPLETION_TIMEOUT
// gives more of it to those who are far away from their cluster.
const (
	completePatience = 250 * time.Millisecond
	patienceVariable = "CLUSTERD_COMPLETION_TIMEOUT"
	cacheAge         = 10 * time.Second
	maxCandidates    = 500
)

// Candidate is a word that fits.
type Candidate struct {
	Word string `json:"word"`
	// Help says what it is.
	Help string `json:"help,omitempty"`
}

// Complete returns the words that fit the last of words, which may be empty; none: a file
// may be meant.
func Complete(ctx context.Context, commands []*cliv2.Command, words []string) []Candidate {
	if len(words) == 0 {
		words = []string{""}
	}
	words = joined(words)
	current, before := words[len(words)-1], words[:len(words)-1]
	var cmd *cliv2.Command
	var rest []string
	for i, w := range before {
		next := byName(commands, w)
		if next == nil {
			rest = before[i:]
			break
		}
		cmd, commands = next, next.Subcommands
	}
	var out []Candidate
	switch {
	case cmd == nil && len(rest) > 0:
		return nil
	case cmd == nil, len(visible(commands)) > 0 && len(rest) == 0 && !strings.HasPrefix(current, "-"):
		for _, c := range visible(commands) {
			out = append(out, Candidate{c.Name, c.Usage})
		}
	case cmd.SkipFlagParsing:
		if set := daemonFlags(cmd.Name); set != nil {
			for _, w := range set.Complete(current) {
				out = append(out, Candidate{Word: w})
			}
		}
	default:
		out = argument(ctx, cmd, rest, current)
	}
	out = slices.DeleteFunc(out, func(c Candidate) bool { return !strings.HasPrefix(c.Word, current) })
	return out[:min(len(out), maxCandidates)]
}

// joined puts together what bash has split at "=".
func joined(words []string) []string {
	var out []string
	for i, w := range words {
		n := len(out)
		switch {
		case w == "=" && n > 0 && strings.HasPrefix(out[n-1], "-"):
			if i == len(words)-1 {
				out = append(out, "")
			}
		default:
			out = append(out, w)
		}
	}
	return out
}

func byName(commands []*cliv2.Command, name string) *cliv2.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

// argument completes a flag, the value of one, or an argument.
func argument(ctx context.Context, cmd *cliv2.Command, before []string, current string) []Candidate {
	takes := map[string]string{} // names of flags, with dashes, by what they take
	for _, o := range optionsOf(cmd) {
		for _, n := range o.names {
			takes[n] = o.value
		}
	}
	if n := len(before); n > 0 && takes[before[n-1]] != "" {
		return values(ctx, strings.TrimLeft(before[n-1], "-"), takes[before[n-1]], before, current)
	}
	if name, _, ok := strings.Cut(current, "="); ok && takes[name] != "" {
		var out []Candidate
		_, begun, _ := strings.Cut(current, "=")
		for _, c := range values(ctx, strings.TrimLeft(name, "-"), takes[name], before, begun) {
			out = append(out, Candidate{name + "=" + c.Word, c.Help})
		}
		return out
	}
	if strings.HasPrefix(current, "-") && !slices.Contains(before, "--") {
		var out []Candidate
		for _, o := range optionsOf(cmd) {
			out = append(out, Candidate{o.names[0], o.usage})
		}
		return out
	}
	n := 0
	for i, w := range before {
		if !strings.HasPrefix(w, "-") && (i == 0 || takes[before[i-1]] == "") {
			n++
		}
	}
	kinds := strings.Fields(strings.NewReplacer("[", "", "]", "", "--", "").Replace(cmd.ArgsUsage))
	if len(kinds) == 0 {
		return nil
	}
	kind := kinds[min(n, len(kinds)-1)]
	if n >= len(kinds) && !strings.HasSuffix(kind, "...") {
		return nil
	}
	return named(ctx, strings.TrimSuffix(kind, "..."), before, current)
}

// values are what a flag may be.
func values(ctx context.Context, flag, kind string, before []string, current string) []Candidate {
	switch flag {
	case "o", "output":
		return plain("table", "wide", "json", "yaml", "name")
	case "type":
		var out []Candidate
		for name := range clusterdv1.OperatorEvent_Type_value {
			out = append(out, Candidate{Word: strings.ToLower(name)})
		}
		slices.SortFunc(out, func(a, b Candidate) int { return strings.Compare(a.Word, b.Word) })
		return out
	case "signal":
		return plain("HUP", "INT", "QUIT", "KILL", "USR1", "USR2", "TERM", "CONT", "STOP")
	case "context":
		return named(ctx, "CONTEXT", before, current)
	}
	switch kind {
	case "AGENT", "TASK", "FRAMEWORK", "ROLE", "CONTEXT":
		return named(ctx, kind, before, current)
	}
	return nil
}

func plain(words ...string) []Candidate {
	var out []Candidate
	for _, w := range words {
		out = append(out, Candidate{Word: w})
	}
	return out
}

// named are the objects of a kind, by the words that stand for them in usage lines: those at
// least that begin with current.
func named(ctx context.Context, kind string, before []string, current string) []Candidate {
	switch kind {
	case "SHELL":
		return plain("bash", "zsh", "fish")
	case "CONTEXT":
		conf, err := console.LoadConfig()
		if err != nil {
			return nil
		}
		return plain(conf.Names()...)
	case "MACHINE":
		kind = "AGENT"
	case "TASK:PATH", "SRC", "DST":
		kind = "TASK"
	}
	ask, ok := sources[kind]
	if !ok {
		return nil
	}
	begun := ""
	if kind == "TASK" {
		begun = current // there may be very many
	}
	return cached(ctx, kind, begun, before, ask)
}

// sources ask the cluster for the names of a kind.
var sources = map[string]func(ctx context.Context, cl *console.Cluster, begun string) ([]Candidate, error){
	"TASK": func(ctx context.Context, cl *console.Cluster, begun string) (out []Candidate, err error) {
		tasks, err := cl.SearchTasks(ctx, begun, maxCandidates)
		for _, t := range tasks {
			out = append(out, Candidate{t.GetTaskId().GetValue(), strings.TrimPrefix(t.GetState().String(), "TASK_")})
		}
		return out, err
	},
	"AGENT": func(ctx context.Context, cl *console.Cluster, _ string) (out []Candidate, err error) {
		res, err := cl.Ask(ctx, master.Call_GET_AGENTS)
		hosts := map[string]int{}
		for _, a := range res.GetGetAgents().GetAgents() {
			hosts[a.GetAgentInfo().GetHostname()]++
		}
		for _, a := range res.GetGetAgents().GetAgents() {
			id, host := a.GetAgentInfo().GetId().GetValue(), a.GetAgentInfo().GetHostname()
			if hosts[host] == 1 {
				out = append(out, Candidate{host, id})
				continue
			}
			out = append(out, Candidate{id, host})
		}
		return out, err
	},
	"FRAMEWORK": func(ctx context.Context, cl *console.Cluster, _ string) (out []Candidate, err error) {
		res, err := cl.Ask(ctx, master.Call_GET_FRAMEWORKS)
		for _, f := range res.GetGetFrameworks().GetFrameworks() {
			out = append(out, Candidate{f.GetFrameworkInfo().GetId().GetValue(), f.GetFrameworkInfo().GetName()})
		}
		return out, err
	},
	"ROLE": func(ctx context.Context, cl *console.Cluster, _ string) (out []Candidate, err error) {
		res, err := cl.Ask(ctx, master.Call_GET_ROLES)
		for _, r := range res.GetGetRoles().GetRoles() {
			out = append(out, Candidate{Word: r.GetName()})
		}
		return out, err
	},
	"METRIC": func(ctx context.Context, cl *console.Cluster, _ string) (out []Candidate, err error) {
		all := map[string]float64{}
		err = cl.Get(ctx, "/metrics/snapshot", &all)
		for name := range all {
			out = append(out, Candidate{Word: name})
		}
		return out, err
	},
	"FLAG": func(ctx context.Context, cl *console.Cluster, _ string) (out []Candidate, err error) {
		res, err := cl.Ask(ctx, master.Call_GET_FLAGS)
		for _, f := range res.GetGetFlags().GetFlags() {
			out = append(out, Candidate{f.GetName(), f.GetValue()})
		}
		return out, err
	},
}

// cached asks the cluster that the words before, the environment or the context name,
// unless that was done a moment ago.
func cached(ctx context.Context, kind, begun string, before []string, ask func(context.Context, *console.Cluster, string) ([]Candidate, error)) (out []Candidate) {
	patience, err := time.ParseDuration(os.Getenv(patienceVariable))
	if err != nil || patience <= 0 {
		patience = completePatience
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	app := &cliv2.App{
		Name: "clusterd", Flags: console.Flags(), Writer: io.Discard, ErrWriter: io.Discard, HideHelp: true,
		ExitErrHandler: func(*cliv2.Context, error) {},
		Action: func(c *cliv2.Context) error {
			cl, err := console.Connect(c)
			if err != nil {
				return err
			}
			file := cacheFile(kind+" "+begun, cl)
			if out = readCache(file); out != nil {
				return nil
			}
			if out, err = ask(ctx, cl.AtOnce(), begun); err != nil {
				return err
			}
			slices.SortFunc(out, func(a, b Candidate) int { return strings.Compare(a.Word, b.Word) })
			writeCache(file, out)
			return nil
		},
	}
	if app.RunContext(ctx, append([]string{"clusterd"}, connection(before)...)) != nil {
		return nil // a prompt is no place for errors
	}
	return out
}

// connection are the flags among words that say which cluster is meant.
func connection(words []string) (out []string) {
	known := map[string]bool{}
	for _, f := range console.Flags() {
		for _, n := range f.Names() {
			known[n] = true
		}
	}
	for i := 0; i < len(words); i++ {
		name, _, whole := strings.Cut(strings.TrimLeft(words[i], "-"), "=")
		if !strings.HasPrefix(words[i], "-") || !known[name] {
			continue
		}
		out = append(out, words[i])
		if !whole && i+1 < len(words) {
			i++
			out = append(out, words[i])
		}
	}
	return out
}

// cacheFile is where the names of a kind are kept for a moment, empty if nowhere.
func cacheFile(kind string, cl *console.Cluster) string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	// Who asks counts: others may not see the same.
	sum := sha256.Sum256(fmt.Append(nil, kind, cl.Masters(), cl.Principal(), cl.Context()))
	return filepath.Join(dir, "clusterd", "complete-"+hex.EncodeToString(sum[:8])+".json")
}

func readCache(file string) (out []Candidate) {
	info, err := os.Stat(file)
	if err != nil || time.Since(info.ModTime()) > cacheAge {
		return nil
	}
	b, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(b, &out) != nil {
		return nil
	}
	return out
}

// writeCache keeps names; where that fails they are asked for again.
func writeCache(file string, out []Candidate) {
	b, err := json.Marshal(out)
	if err != nil || file == "" || os.MkdirAll(filepath.Dir(file), 0o700) != nil {
		return
	}
	// There is a file for every beginning that somebody has typed.
	old, _ := filepath.Glob(filepath.Join(filepath.Dir(file), "complete-*.json")) // the pattern is good
	for _, other := range old {
		if info, err := os.Stat(other); err == nil && time.Since(info.ModTime()) > cacheAge {
			_ = os.Remove(other) // what cannot be removed does no harm
		}
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".complete-*")
	if err != nil {
		return
	}
	_, err = f.Write(b)
	if f.Close() != nil || err != nil || os.Rename(f.Name(), file) != nil {
		_ = os.Remove(f.Name()) // nothing is to be done about it
	}
}

// unprintable is what must not reach a terminal: names are what others have chosen.
var unprintable = regexp.MustCompile(`[[:cntrl:]]+`)

// printCandidates writes candidates as the script of a shell reads them.
func printCandidates(w io.Writer, shell string, candidates []Candidate) error {
	for _, c := range candidates {
		if unprintable.MatchString(c.Word) {
			continue
		}
		help, _, _ := strings.Cut(c.Help, "\n")
		help = unprintable.ReplaceAllString(help, " ")
		line := c.Word
		switch shell {
		case "zsh":
			line = strings.ReplaceAll(c.Word, ":", `\:`)
			if help != "" {
				line += ":" + help
			}
		case "fish":
			if help != "" {
				line += "\t" + help
			}
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// completions are scripts that ask clusterd itself for the words that fit. Where none do,
// the shell offers files.
var completions = map[string]string{
	"bash": `_clusterd() {
  # bash has split words at ":" and "=": they are put together again, and what is before the
  # last piece stays as it is.
  local rest=$COMP_LINE piece cut line i
  local -a words=()
  for ((i = 0; i <= COMP_CWORD; i++)); do
    piece=${COMP_WORDS[i]}
    if ((i > 0)) && [[ $rest != [[:space:]]* ]]; then
      words[${#words[@]}-1]+=$piece
    else
      words+=("$piece")
    fi
    rest=${rest#"${rest%%[![:space:]]*}"}
    rest=${rest#"$piece"}
  done
  cut=${words[${#words[@]}-1]}
  [[ $piece == [:=] ]] || cut=${cut%"$piece"}
  COMPREPLY=()
  while IFS= read -r line; do
    printf -v line %q "$line"
    COMPREPLY+=("${line#"$cut"}")
  done < <("${words[0]}" __complete bash "${words[@]:1}" 2>/dev/null)
  if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]]; then
    compopt -o nospace 2>/dev/null
  fi
}
complete -o default -F _clusterd clusterd
`,
	"zsh": `#compdef clusterd
_clusterd() {
  local -a found
  found=("${(@f)$("${words[1]}" __complete zsh "${(@)words[2,$CURRENT]}" 2>/dev/null)}")
  if [[ -n "${found[1]}" ]]; then
    _describe clusterd found
  else
    _files
  fi
}
if [[ "${funcstack[1]}" == _clusterd ]]; then
  _clusterd "$@"
else
  compdef _clusterd clusterd
fi
`,
	"fish": `function __clusterd_complete
  set -l words (commandline -opc)
  set -l found ($words[1] __complete fish $words[2..-1] (commandline -ct) 2>/dev/null)
  if test (count $found) -gt 0
    printf '%s\n' $found
  else
    __fish_complete_path (commandline -ct)
  end
end
complete -c clusterd -f -a '(__clusterd_complete)'
`,
}
