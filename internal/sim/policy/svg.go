package policy

import (
	"bytes"
	"fmt"
	"html"
	"io"
	"math"
	"strconv"
	"time"
)

// The picture, in pixels.
const (
	plotWidth   = 960
	plotLeft    = 70
	plotRight   = 190 // for the legend
	panelHeight = 190
	panelGap    = 66
	plotTop     = 76
)

// plotColors are those of the lines; they can be told apart on white and on black, and
// by most who do not see all colors.
var plotColors = []string{"#3b82c4", "#e08214", "#2a9d6f", "#c4527c", "#8a6fd1", "#8c8c3c", "#d1495b", "#5fa8a8"}

// line is a curve of a panel.
type line struct {
	name   string
	color  string
	dashed bool
	values []float64
}

// panel is one diagram.
type panel struct {
	title, unit string
	percent     bool
	top         float64 // least upper end of the axis
	lines       []line
}

// WriteSVG draws utilisation, shares of roles and waiting tasks over time.
func (r *Result) WriteSVG(w io.Writer) error {
	panels := r.panels()
	height := plotTop + len(panels)*(panelHeight+panelGap)
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" font-family="system-ui, sans-serif" font-size="12">
`, plotWidth, height, plotWidth, height)
	s := &r.Settings
	title := fmt.Sprintf("%s agents, %s frameworks, %s", number(s.Agents), number(s.Frameworks), short(r.For))
	fmt.Fprintf(&b, "<title>%s</title>\n", html.EscapeString(title))
	b.WriteString(`<style>
svg { background: #ffffff }
text { fill: #333333 }
.grid { stroke: #dddddd; fill: none }
.axis { stroke: #888888; fill: none }
.line { fill: none; stroke-width: 1.6; stroke-linejoin: round }
.fair { stroke-dasharray: 5 4; stroke-width: 1.2 }
.fail { fill: #d1495b; fill-opacity: 0.16 }
.mark { stroke: #d1495b }
@media (prefers-color-scheme: dark) {
  svg { background: #16181c }
  text { fill: #d6d6d6 }
  .grid { stroke: #33363c }
  .axis { stroke: #80848c }
  .fail { fill-opacity: 0.3 }
}
</style>
`)
	fmt.Fprintf(&b, `<text x="%d" y="28" font-size="17" font-weight="600">%s</text>`+"\n", plotLeft, html.EscapeString(title))
	fmt.Fprintf(&b, `<text x="%d" y="48">role sorter %s, framework sorter %s, placement %s, seed %d</text>`+"\n",
		plotLeft, html.EscapeString(s.RoleSorter), html.EscapeString(s.FrameworkSorter), html.EscapeString(s.Placement), s.Seed)
	for i := range panels {
		r.draw(&b, &panels[i], float64(plotTop+i*(panelHeight+panelGap)+22))
	}
	r.nameFailures(&b, plotTop+22)
	b.WriteString("</svg>\n")
	_, err := w.Write(b.Bytes())
	return err
}

func (r *Result) panels() []panel {
	n := len(r.Samples)
	series := func(get func(*Sample) float64) []float64 {
		out := make([]float64, n)
		for i := range r.Samples {
			out[i] = get(&r.Samples[i])
		}
		return out
	}
	use := panel{title: "Utilisation", unit: "of the cluster", percent: true, top: 1, lines: []line{
		{name: "cpus", color: plotColors[0], values: series(func(s *Sample) float64 { return s.CPUs })},
		{name: "mem", color: plotColors[1], values: series(func(s *Sample) float64 { return s.Mem })},
	}}
	if up := series(func(s *Sample) float64 { return s.Up }); differs(up, 1) {
		use.lines = append(use.lines, line{name: "agents that are on", color: "#888888", dashed: true, values: up})
	}
	shares := panel{title: "Dominant shares of roles (dashed: what would be fair)", unit: "of the cluster", percent: true, top: 0.01}
	for i := range r.Roles {
		color := plotColors[i%len(plotColors)]
		name := r.Roles[i].Name
		if w := r.Roles[i].Weight; w != 1 {
			name += ", weight " + strconv.FormatFloat(w, 'g', -1, 64)
		}
		shares.lines = append(shares.lines,
			line{color: color, dashed: true, values: series(func(s *Sample) float64 { return s.Fair[i] })},
			line{name: name, color: color, values: series(func(s *Sample) float64 { return s.Shares[i] })})
	}
	return []panel{use, shares, {title: "Tasks that wait to be launched", unit: "tasks", top: 1, lines: []line{
		{name: "waiting", color: plotColors[6], values: series(func(s *Sample) float64 { return float64(s.Waiting) })},
	}}}
}

func differs(values []float64, from float64) bool {
	for _, v := range values {
		if math.Abs(v-from) > 1e-9 {
			return true
		}
	}
	return false
}

// draw draws a panel whose upper edge is at y.
func (r *Result) draw(b *bytes.Buffer, p *panel, y float64) {
	width := float64(plotWidth - plotLeft - plotRight)
	bottom := y + panelHeight
	top := p.top
	for _, l := range p.lines {
		for _, v := range l.values {
			top = max(top, v)
		}
	}
	step := niceStep(top / 4)
	if p.percent && p.top == 1 && top <= 1 {
		step = 0.25
	}
	top = math.Ceil(top/step-1e-9) * step
	span := r.Samples[len(r.Samples)-1].At
	x := r.x
	fmt.Fprintf(b, `<text x="%d" y="%s" font-weight="600">%s</text>`+"\n", plotLeft, px(y-8), html.EscapeString(p.title))
	r.drawFailures(b, y)
	for v := 0.0; v <= top+step/2; v += step {
		at := bottom - panelHeight*v/top
		fmt.Fprintf(b, `<path class="grid" d="M%d %sH%s"/><text x="%d" y="%s" text-anchor="end">%s</text>`+"\n",
			plotLeft, px(at), px(plotLeft+width), plotLeft-8, px(at+4), axisText(v, p.percent))
	}
	drawTime(b, x, span, bottom)
	fmt.Fprintf(b, `<path class="axis" d="M%d %sV%sH%s"/>`+"\n", plotLeft, px(y), px(bottom), px(plotLeft+width))
	fmt.Fprintf(b, `<text transform="translate(18 %s) rotate(-90)" text-anchor="middle">%s</text>`+"\n", px(y+panelHeight/2), html.EscapeString(p.unit))
	legend := y + 10
	for _, l := range p.lines {
		class := "line"
		if l.dashed {
			class += " fair"
		}
		fmt.Fprintf(b, `<path class="%s" stroke="%s" d="`, class, l.color)
		for i, v := range l.values {
			fmt.Fprintf(b, "%c%s %s", "ML"[min(i, 1)], px(x(r.Samples[i].At)), px(bottom-panelHeight*v/top))
		}
		b.WriteString("\"/>\n")
		if l.name != "" {
			fmt.Fprintf(b, `<path class="%s" stroke="%s" d="M%s %sh22"/><text x="%s" y="%s">%s</text>`+"\n",
				class, l.color, px(plotLeft+width+14), px(legend-4), px(plotLeft+width+42), px(legend), html.EscapeString(l.name))
			legend += 18
		}
	}
}

// x is where a moment is, from left to right.
func (r *Result) x(at time.Duration) float64 {
	span := r.Samples[len(r.Samples)-1].At
	if span <= 0 {
		return plotLeft
	}
	return plotLeft + float64(plotWidth-plotLeft-plotRight)*min(1, float64(at)/float64(span))
}

// nameFailures writes in the first panel, whose upper edge is at y, what the marks mean.
func (r *Result) nameFailures(b *bytes.Buffer, y float64) {
	for i := range r.Failures {
		if f := &r.Failures[i]; f.At <= r.For {
			fmt.Fprintf(b, `<text x="%s" y="%s" font-size="10">%s</text>`+"\n",
				px(r.x(f.At)+4), px(y+panelHeight-6-float64(i%4)*13), html.EscapeString(f.Failure))
		}
	}
}

// drawFailures marks when something was broken.
func (r *Result) drawFailures(b *bytes.Buffer, y float64) {
	for i := range r.Failures {
		f := &r.Failures[i]
		if f.At > r.For {
			continue
		}
		end := r.For
		if f.until > 0 {
			end = min(end, f.until)
		}
		left := r.x(f.At)
		fmt.Fprintf(b, `<rect class="fail" x="%s" y="%s" width="%s" height="%d"><title>%s</title></rect><path class="mark" d="M%s %sv%d"/>`+"\n",
			px(left), px(y), px(max(0, r.x(end)-left)), panelHeight, html.EscapeString(f.Failure), px(left), px(y), panelHeight)
	}
}

// drawTime draws the axis of time.
func drawTime(b *bytes.Buffer, x func(time.Duration) float64, span time.Duration, bottom float64) {
	step := timeStep(span / 6)
	for at := time.Duration(0); at <= span; at += step {
		fmt.Fprintf(b, `<path class="axis" d="M%s %sv4"/><text x="%s" y="%s" text-anchor="middle">%s</text>`+"\n",
			px(x(at)), px(bottom), px(x(at)), px(bottom+18), timeText(at))
	}
}

// timeStep is a round duration, at least d.
func timeStep(d time.Duration) time.Duration {
	for _, s := range []time.Duration{
		time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second,
		time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
		time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour,
	} {
		if d <= s {
			return s
		}
	}
	day := 24 * time.Hour
	return max(day, (d+day-1)/day*day)
}

func timeText(d time.Duration) string {
	switch {
	case d == 0:
		return "0"
	case d%(24*time.Hour) == 0:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	case d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d%time.Minute == 0 && d > time.Hour:
		return fmt.Sprintf("%dh%02d", d/time.Hour, d%time.Hour/time.Minute)
	case d%time.Minute == 0:
		return fmt.Sprintf("%dmin", d/time.Minute)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

// niceStep is 1, 2 or 5 times a power of ten, at least v.
func niceStep(v float64) float64 {
	if v <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if v <= m*power*(1+1e-9) {
			return m * power
		}
	}
	return 10 * power
}

func axisText(v float64, percent bool) string {
	if percent {
		return strconv.FormatFloat(math.Round(v*1e6)/1e4, 'f', -1, 64) + "%"
	}
	if v < 10 && v != math.Trunc(v) {
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
	return number(int(math.Round(v)))
}

// px writes a coordinate to a tenth.
func px(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }
