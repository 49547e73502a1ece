package top

import "charm.land/lipgloss/v2"

// Colours are those of the terminal, so that they suit dark and light ones.
var (
	titleStyle  = lipgloss.NewStyle().Bold(true)
	headStyle   = lipgloss.NewStyle().Bold(true).Underline(true)
	cursorStyle = lipgloss.NewStyle().Reverse(true)
	quietStyle  = lipgloss.NewStyle().Faint(true)
	goodStyle   = lipgloss.NewStyle().Foreground(lipgloss.Green)
	busyStyle   = lipgloss.NewStyle().Foreground(lipgloss.Yellow)
	badStyle    = lipgloss.NewStyle().Foreground(lipgloss.Red)
	tabStyle    = lipgloss.NewStyle().Padding(0, 1)
	openStyle   = tabStyle.Bold(true).Reverse(true)
)

// stateStyle says at a glance how a state is.
func stateStyle(state string) lipgloss.Style {
	switch state {
	case "running", "active":
		return goodStyle
	case "staging", "starting", "killing", "draining", "inactive", "deactivated", "recovered":
		return busyStyle
	case "failed", "lost", "error", "dropped", "gone", "gone_by_operator", "unreachable", "disconnected", "unhealthy":
		return badStyle
	}
	return quietStyle
}
