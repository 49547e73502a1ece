/** Line icons of our own, drawn on a grid of 20. They are decoration: whoever uses one gives the name beside it. */
const paths = {
  overview: 'M3 3h6v7H3zM11 3h6v4h-6zM11 9h6v8h-6zM3 12h6v5H3z',
  frameworks: 'M10 2.5 17 6v8l-7 3.5L3 14V6zM3 6l7 3.5L17 6M10 9.5v8',
  tasks: 'M3 5h2M3 10h2M3 15h2M8 5h9M8 10h9M8 15h9',
  agents: 'M3 3h14v5H3zM3 12h14v5H3zM6 5.5h.01M6 14.5h.01',
  roles: 'M10 3v4M4 13v-3h12v3M10 7v3M2.5 13h3v3h-3zM8.5 13h3v3h-3zM14.5 13h3v3h-3z',
  offers: 'M3 8h14v9H3zM2 5h16v3H2zM10 5v12M10 5S9 2 7 2 5 5 10 5s5-3 3-3-3 3-3 3',
  maintenance: 'M3 5h14v12H3zM3 9h14M7 3v4M13 3v4M7 13h3',
  registry: 'M10 3c4 0 7 1 7 2.5S14 8 10 8 3 7 3 5.5 6 3 10 3zM3 5.5V14.500c0 1.500 3 2.500 7 2.500s7-1 7-2.500V5.500M3 10c0 1.500 3 2.500 7 2.500s7-1 7-2.500',
  flags: 'M4 18V3M4 4h11l-2 3.500L15 11H4',
  metrics: 'M3 16 8 9l3 4 6-9M3 3v14h14',
  files: 'M3 4h5l2 2h7v10H3z',
  file: 'M5 2h7l4 4v12H5zM12 2v4h4',
  terminal: 'M2.500 4h15v12h-15zM5.500 8l2.500 2-2.500 2M10 12.500h4',
  search: 'M9 3.500a5.500 5.500 0 1 0 0 11 5.500 5.500 0 0 0 0-11zM13 13l4 4',
  menu: 'M3 5.500h14M3 10h14M3 14.500h14',
  close: 'M5 5l10 10M15 5 5 15',
  copy: 'M7 7h10v10H7zM13 7V3H3v10h4',
  check: 'M4 10.500 8 14.500 16 5.500',
  down: 'M5 8l5 5 5-5',
  right: 'M8 5l5 5-5 5',
  left: 'M12 5l-5 5 5 5',
  up: 'M5 12l5-5 5 5',
  sun: 'M10 6.500a3.500 3.500 0 1 0 0 7 3.500 3.500 0 0 0 0-7zM10 2v1.500M10 16.500V18M2 10h1.500M16.500 10H18M4.300 4.300l1.100 1.100M14.600 14.600l1.100 1.100M4.300 15.700l1.100-1.100M14.600 5.400l1.100-1.100',
  moon: 'M16.500 12A7 7 0 1 1 8 3.500a5.500 5.500 0 0 0 8.500 8.500z',
  system: 'M2.500 4h15v10h-15zM7 17h6M10 14v3',
  user: 'M10 3a3.500 3.500 0 1 0 0 7 3.500 3.500 0 0 0 0-7zM3.500 17c.5-3 3-5 6.500-5s6 2 6.500 5',
  help: 'M10 2.500a7.500 7.500 0 1 0 0 15 7.500 7.500 0 0 0 0-15zM7.800 8A2.200 2.200 0 1 1 10 10.500V12M10 14.500h.01',
  warning: 'M10 3 18 16.500H2zM10 8v4M10 14h.01',
  info: 'M10 2.500a7.500 7.500 0 1 0 0 15 7.500 7.500 0 0 0 0-15zM10 9v5M10 6.500h.01',
  error: 'M10 2.500a7.500 7.500 0 1 0 0 15 7.500 7.500 0 0 0 0-15zM10 6v5M10 13.500h.01',
  external: 'M8 4H4v12h12v-4M11 3h6v6M17 3l-8 8',
  download: 'M10 3v10M6 9l4 4 4-4M3 17h14',
  upload: 'M10 13V3M6 7l4-4 4 4M3 17h14',
  play: 'M6 4l10 6-10 6z',
  pause: 'M6 4h2.500v12H6zM11.500 4H14v12h-2.500z',
  stop: 'M5 5h10v10H5z',
  refresh: 'M16 6a7 7 0 1 0 1 5M16 2.500V6h-3.500',
  plus: 'M10 4v12M4 10h12',
  minus: 'M4 10h12',
  more: 'M4 10h1M9.500 10h1M15 10h1',
  edit: 'M3 17l1-4L14 3l3 3L7 16z',
  trash: 'M3 5h14M8 5V3h4v2M5 5l1 12h8l1-12M8.500 8v6M11.500 8v6',
  link: 'M8.500 11.500l3-3M7 9 4.500 11.500a2.800 2.800 0 0 0 4 4L11 13M9 7l2.500-2.500a2.800 2.800 0 0 1 4 4L13 11',
  pin: 'M7 3h6l-1 6 3 3H5l3-3zM10 12v6',
  clock: 'M10 2.500a7.500 7.500 0 1 0 0 15 7.500 7.500 0 0 0 0-15zM10 6v4l3 2',
  filter: 'M3 4h14l-5.500 7v5l-3 1.500V11z',
  drain: 'M4 4h12l-2 5H6zM10 9v8M7 14l3 3 3-3',
  leader: 'M3 15h14M3 15V6l4 4 3-6 3 6 4-4v9',
  logout: 'M8 3H3v14h5M12 6l4 4-4 4M16 10H7',
  grid: 'M3 3h5v5H3zM12 3h5v5h-5zM3 12h5v5H3zM12 12h5v5h-5z',
} as const

export type IconName = keyof typeof paths

/** Icon is decoration; give the thing that carries it a name. */
export function Icon({ name, size = 16, class: cls }: { name: IconName; size?: number; class?: string }) {
  return (
    <svg class={'icon' + (cls ? ' ' + cls : '')} width={size} height={size} viewBox="0 0 20 20" aria-hidden="true" focusable="false">
      <path d={paths[name]} />
    </svg>
  )
}
