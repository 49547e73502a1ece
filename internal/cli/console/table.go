package console

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	cliv2 "github.com/urfave/cli/v2"
	"google.golang.org/protobuf/proto"
)

// formats are what -o takes.
var formats = []string{"table", "wide", "json", "yaml", "name"}

// CheckFormat refuses what is no format of an answer; empty is the default.
func CheckFormat(format string) error {
	if format == "" || slices.Contains(formats, format) {
		return nil
	}
	return Usagef("no output format %q (%s)", format, strings.Join(formats, ", "))
}

// Format is the format that a command's flags, or the context in use, ask for.
func Format(c *cliv2.Context) (string, error) {
	format := c.String("output")
	if format == "" {
		conf, err := LoadConfig()
		if err != nil {
			return "", err
		}
		if x := conf.Contexts[cmp.Or(c.String("context"), conf.Current)]; x != nil {
			format = x.Output
		}
	}
	return cmp.Or(format, "table"), CheckFormat(format)
}

// Table is an answer of many objects: rows under a header, or the objects themselves as
// JSON or YAML.
type Table struct {
	// Header are the columns, Wide further ones of -o wide.
	Header, Wide []string
	// Rows have a cell for every column of both.
	Rows [][]string
	// Items are what JSON and YAML show: a slice with an object for every row (proto
	// messages or what encoding/json takes), which is filtered and sorted with them, or
	// anything else, which is shown whole. Nil: the rows by their columns.
	Items any
	// Names are what -o name shows; nil: the first column.
	Names []string
}

// Add adds a row.
func (t *Table) Add(cells ...string) { t.Rows = append(t.Rows, cells) }

// Print filters and sorts the table as the flags say and writes it.
func (t *Table) Print(e Env, c *cliv2.Context) error {
	format, err := Format(c)
	if err != nil {
		return err
	}
	order, err := t.pick(c.StringSlice("filter"), c.String("sort-by"))
	if err != nil {
		return err
	}
	switch format {
	case "json", "yaml":
		return PrintValue(e.Out, t.items(order), format)
	case "name":
		for _, i := range order {
			if _, err := fmt.Fprintln(e.Out, t.name(i)); err != nil {
				return err
			}
		}
		return nil
	}
	columns := t.Header
	if format == "wide" {
		columns = slices.Concat(t.Header, t.Wide)
	}
	return t.write(e.Out, columns, order, !c.Bool("no-headers"))
}

// Write writes all rows under the header, whatever the flags say.
func (t *Table) Write(w io.Writer) error {
	order, err := t.pick(nil, "")
	if err != nil {
		return err
	}
	return t.write(w, t.Header, order, true)
}

func (t *Table) write(out io.Writer, columns []string, order []int, header bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if header {
		fmt.Fprintln(w, strings.Join(columns, "\t"))
	}
	for _, i := range order {
		cells := make([]string, len(columns))
		for j := range columns {
			cells[j] = Plain(t.Rows[i][j])
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

// Plain keeps a cell on its line, and what a task or a framework has named itself from
// steering the terminal.
func Plain(cell string) string { return cmp.Or(strings.Map(plainRune, cell), "-") }

// plainText is Plain for a text of several lines.
func plainText(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return r
		}
		return plainRune(r)
	}, text)
}

func plainRune(r rune) rune {
	if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
		return '?'
	}
	return r
}

func (t *Table) name(i int) string {
	if t.Names != nil {
		return t.Names[i]
	}
	return t.Rows[i][0]
}

// items are the objects in an order.
func (t *Table) items(order []int) any {
	v := reflect.ValueOf(t.Items)
	if t.Items != nil && (v.Kind() != reflect.Slice || v.Len() != len(t.Rows)) {
		return t.Items
	}
	out := make([]any, 0, len(order))
	for _, i := range order {
		if t.Items != nil {
			out = append(out, v.Index(i).Interface())
			continue
		}
		row := map[string]string{}
		for j, column := range slices.Concat(t.Header, t.Wide) {
			row[Key(column)] = t.Rows[i][j]
		}
		out = append(out, row)
	}
	return out
}

// Key is what a column is called in --filter and --sort-by.
func Key(column string) string { return strings.ReplaceAll(strings.ToLower(column), " ", "_") }

// column finds a column by its key.
func (t *Table) column(key string) (int, error) {
	var keys []string
	for i, name := range slices.Concat(t.Header, t.Wide) {
		if Key(name) == Key(key) {
			return i, nil
		}
		keys = append(keys, Key(name))
	}
	return 0, Hint(Usagef("no column %q", key), "the columns are %s", strings.Join(keys, ", "))
}

// Fitting returns which rows fit filters such as those of --filter.
func (t *Table) Fitting(filters []string) ([]int, error) { return t.pick(filters, "") }

// pick returns the rows that fit the filters, sorted.
func (t *Table) pick(filters []string, by string) ([]int, error) {
	var tests []func([]string) bool
	for _, text := range SplitFilters(filters) {
		test, err := t.test(text)
		if err != nil {
			return nil, err
		}
		tests = append(tests, test)
	}
	var order []int
	for i, row := range t.Rows {
		if !slices.ContainsFunc(tests, func(fits func([]string) bool) bool { return !fits(row) }) {
			order = append(order, i)
		}
	}
	if by == "" {
		return order, nil
	}
	name, backwards := strings.CutPrefix(by, "-")
	at, err := t.column(name)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(order, func(a, b int) int {
		if backwards {
			a, b = b, a
		}
		return compareCells(t.Rows[a][at], t.Rows[b][at])
	})
	return order, nil
}

var filterSyntax = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9_' -]*?)\s*(!=|!~|=|~|>|<)(.*)$`)

// SplitFilters splits several filters in one text at commas, but not at those of a
// regular expression or value: a filter begins with a key and an operator.
func SplitFilters(texts []string) []string {
	var out []string
	for _, text := range texts {
		for i, part := range strings.Split(text, ",") {
			if i > 0 && !filterSyntax.MatchString(part) {
				out[len(out)-1] += "," + part
				continue
			}
			out = append(out, part)
		}
	}
	return out
}

// test reads a filter.
func (t *Table) test(text string) (func([]string) bool, error) {
	m := filterSyntax.FindStringSubmatch(text)
	if m == nil {
		return nil, Hint(Usagef("--filter %q", text), "KEY=VALUE, KEY!=VALUE, KEY~REGEXP, KEY!~REGEXP, KEY>N or KEY<N")
	}
	at, err := t.column(m[1])
	if err != nil {
		return nil, err
	}
	op, value := m[2], m[3]
	switch op {
	case "~", "!~":
		re, err := regexp.Compile("(?i)" + value)
		if err != nil {
			return nil, Usagef("--filter %q: %w", text, err)
		}
		return func(r []string) bool { return re.MatchString(r[at]) == (op == "~") }, nil
	case "<":
		return func(r []string) bool { return compareCells(r[at], value) < 0 }, nil
	case ">":
		return func(r []string) bool { return compareCells(r[at], value) > 0 }, nil
	}
	return func(r []string) bool { return strings.EqualFold(r[at], value) == (op == "=") }, nil
}

// compareCells orders cells as what they look like: durations, numbers (also those of
// "1.5/4" and "3 MB"), else text. What is no number comes first.
func compareCells(a, b string) int {
	x, isX := quantity(a)
	y, isY := quantity(b)
	switch {
	case isX && isY:
		return cmp.Compare(x, y)
	case isX != isY && (a == "-" || b == "-"):
		return cmp.Compare(b2i(isX), b2i(isY))
	}
	return cmp.Compare(strings.ToLower(a), strings.ToLower(b))
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

var (
	daySyntax  = regexp.MustCompile(`^(\d+)d(.*)$`)
	byteSyntax = regexp.MustCompile(`^(\d+(?:\.\d+)?) ?([KMGTP]?)B$`)
)

// quantity reads a cell as a number.
func quantity(s string) (float64, bool) {
	head, _, _ := strings.Cut(s, "/")
	if v, err := strconv.ParseFloat(strings.TrimSuffix(head, "%"), 64); err == nil {
		return v, true
	}
	if m := byteSyntax.FindStringSubmatch(s); m != nil {
		v, err := strconv.ParseFloat(m[1], 64)
		for range strings.Index("KMGTP", m[2]) + b2i(m[2] != "") {
			v *= 1024
		}
		return v, err == nil
	}
	days := 0.0
	if m := daySyntax.FindStringSubmatch(s); m != nil {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			return 0, false
		}
		days, s = float64(n), cmp.Or(m[2], "0s")
	}
	d, err := time.ParseDuration(s)
	return days*24*3600 + d.Seconds(), err == nil
}

// PrintValue writes an object as JSON or YAML; proto messages in Mesos's mapping. Of a list no
// more than one element is in memory in that form: it may have 100,000.
func PrintValue(w io.Writer, v any, format string) error {
	out := bufio.NewWriterSize(w, 64<<10)
	one := indented
	if format == "yaml" {
		one = yamlOf
	}
	err := printElements(out, v, one, format == "yaml")
	return errors.Join(err, out.Flush())
}

func printElements(out *bufio.Writer, v any, one func(b []byte, within bool) ([]byte, error), asYAML bool) error {
	list := reflect.ValueOf(v)
	_, isMessage := v.(proto.Message)
	if v == nil || isMessage || list.Kind() != reflect.Slice || list.Type() == reflect.TypeFor[json.RawMessage]() || list.Len() == 0 {
		b, err := marshal(v)
		if err != nil {
			return err
		}
		if b, err = one(b, false); err == nil {
			_, err = out.Write(b)
		}
		return err
	}
	begin, between, end := "[\n  ", ",\n  ", "\n]\n"
	if asYAML {
		begin, between, end = "", "", ""
	}
	for i := range list.Len() {
		b, err := marshal(list.Index(i).Interface())
		if err != nil {
			return err
		}
		if b, err = one(b, true); err != nil {
			return err
		}
		text := between
		if i == 0 {
			text = begin
		}
		_, _ = out.WriteString(text) // what fails is said by the next write
		if _, err := out.Write(b); err != nil {
			return err
		}
	}
	_, err := out.WriteString(end)
	return err
}

// indented is JSON on lines, alone or within a list.
func indented(b []byte, within bool) ([]byte, error) {
	var out bytes.Buffer
	prefix := ""
	if within {
		prefix = "  "
	}
	err := json.Indent(&out, b, prefix, "  ")
	if !within {
		out.WriteByte('\n')
	}
	return out.Bytes(), err
}

// JSON encodes an object in one line; proto messages in Mesos's mapping.
func JSON(v any) ([]byte, error) { return marshal(v) }

// marshal encodes slices element by element: there may be messages in them.
func marshal(v any) ([]byte, error) {
	if m, ok := v.(proto.Message); ok {
		return encode(m)
	}
	if raw, ok := v.(json.RawMessage); ok && raw != nil {
		return raw, nil
	}
	list := reflect.ValueOf(v)
	if v == nil || list.Kind() != reflect.Slice || list.Type() == reflect.TypeFor[json.RawMessage]() {
		return json.Marshal(v)
	}
	parts := make([][]byte, list.Len())
	for i := range parts {
		b, err := marshal(list.Index(i).Interface())
		if err != nil {
			return nil, err
		}
		parts[i] = b
	}
	return slices.Concat([]byte("["), bytes.Join(parts, []byte(",")), []byte("]")), nil
}

// Detail is an answer about one object: lines of what and value, and tables below them.
type Detail struct {
	// Item is what JSON and YAML show.
	Item any
	// Name is what -o name shows.
	Name  string
	lines [][]string
	parts []part
}

type part struct {
	title string
	table *Table
}

// Line adds a line; one without a value is left out.
func (d *Detail) Line(what, value string) {
	if value != "" && value != "-" {
		d.lines = append(d.lines, []string{what, value})
	}
}

// Linef is Line with a format.
func (d *Detail) Linef(what, format string, args ...any) { d.Line(what, fmt.Sprintf(format, args...)) }

// Part adds a table under a title; one without rows is left out.
func (d *Detail) Part(title string, t *Table) {
	if len(t.Rows) > 0 {
		d.parts = append(d.parts, part{title, t})
	}
}

// Print writes it in the format that the flags ask for.
func (d *Detail) Print(e Env, c *cliv2.Context) error {
	format, err := Format(c)
	if err != nil {
		return err
	}
	switch format {
	case "json", "yaml":
		return PrintValue(e.Out, d.Item, format)
	case "name":
		_, err := fmt.Fprintln(e.Out, d.Name)
		return err
	}
	w := tabwriter.NewWriter(e.Out, 0, 0, 2, ' ', 0)
	for _, l := range d.lines {
		fmt.Fprintln(w, l[0]+"\t"+Plain(l[1]))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, p := range d.parts {
		fmt.Fprintf(e.Out, "\n%s\n", p.title)
		columns := p.table.Header
		if format == "wide" {
			columns = slices.Concat(p.table.Header, p.table.Wide)
		}
		order, err := p.table.pick(nil, "")
		if err != nil {
			return err
		}
		if err := p.table.write(e.Out, columns, order, true); err != nil {
			return err
		}
	}
	return nil
}
