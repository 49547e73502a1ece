/** What is around every page: navigation, banner, palette, dialogs, messages. */
import { useSignal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import { Button, cx, Dialogs, Icon, Menu, Toasts } from '../components'
import { Palette, paletteOpen } from '../components/Palette'
import { second } from '../clock'
import { theme, wideNav, type Theme } from '../prefs'
import { href, place, useRoute } from '../router'
import { can, loginNeeded, logout, session } from '../session'
import { connection, leader, masters, trouble } from '../state/store'
import { toast } from '../components/Toast'
import { showHelp } from './keys'
import { groups, items, type NavItem } from './nav'
import { Outlet } from './routes'
import { Login } from '../pages/login'

export function Shell() {
  const drawer = useSignal(false)
  const main = useRef<HTMLElement>(null)
  const first = useRef(true)
  const here = place.value
  // Who uses a keyboard or a screen reader starts on every page at its title.
  useEffect(() => {
    drawer.value = false
    if (first.current) {
      first.current = false
      return
    }
    main.current?.scrollTo(0, 0)
    const title = main.current?.querySelector<HTMLElement>('h1')
    ;(title ?? main.current)?.focus({ preventScroll: true })
  }, [here])
  if (loginNeeded.value || useRoute().name === 'login') {
    return (
      <>
        <Login />
        <Toasts />
      </>
    )
  }
  return (
    <div class={cx('shell', !wideNav.value && 'shell-slim')}>
      <a class="skip" href="#main" onClick={(e) => (e.preventDefault(), main.current?.focus())}>
        Skip to content
      </a>
      <Side open={drawer.value} close={() => (drawer.value = false)} />
      <div class="column">
        <TopBar menu={() => (drawer.value = true)} />
        <Banner />
        <main id="main" ref={main} tabIndex={-1}>
          <Outlet />
        </main>
        <BottomBar more={() => (drawer.value = true)} />
      </div>
      {drawer.value && <div class="shade" onClick={() => (drawer.value = false)} />}
      <Palette />
      <Dialogs />
      <Toasts />
    </div>
  )
}

function isHere(i: NavItem, name: string): boolean {
  return i.route === name || (i.within as readonly string[]).includes(name)
}

function Side({ open, close }: { open: boolean; close: () => void }) {
  const name = useRoute().name
  const nav = useRef<HTMLElement>(null)
  useEffect(() => {
    if (open) nav.current?.querySelector<HTMLElement>('.nav-item')?.focus()
  }, [open])
  return (
    <nav ref={nav} class={cx('side', open && 'side-open')} aria-label="Main" onKeyDown={(e) => e.key === 'Escape' && close()}>
      <a class="brand" href={href('overview')} title="Overview of clusterd">
        <Logo />
        <span class="brand-text">
          clusterd
          {leader.value?.cluster ? <small>{leader.value.cluster}</small> : null}
        </span>
      </a>
      <div class="side-scroll">
        {groups.map((g) => (
          <div key={g.title} class="nav-group">
            {g.items.some((i) => i.needs === undefined || can(i.needs)) && <div class="nav-title">{g.title}</div>}
            {g.items
              .filter((i) => i.needs === undefined || can(i.needs))
              .map((i) => (
                <a key={i.route} class={cx('nav-item', isHere(i, name) && 'nav-on')} href={href(i.route)} aria-current={i.route === name ? 'page' : isHere(i, name) ? 'true' : undefined} title={`${i.title} (g ${i.key})`}>
                  <Icon name={i.icon} size={18} />
                  <span class="nav-text">{i.title}</span>
                </a>
              ))}
          </div>
        ))}
      </div>
      <div class="side-foot">
        <button type="button" class="nav-item nav-slim" onClick={() => (wideNav.value = !wideNav.value)} aria-pressed={!wideNav.value} title={wideNav.value ? 'Show icons only' : 'Show names'}>
          <Icon name={wideNav.value ? 'left' : 'right'} size={18} />
          <span class="nav-text">Icons only</span>
        </button>
      </div>
    </nav>
  )
}

export function Logo({ size = 28 }: { size?: number }) {
  return (
    <svg class="logo" viewBox="0 0 32 32" width={size} height={size} aria-hidden="true">
      <path d="M16 3.500 27 9.800v12.400l-11 6.300-11-6.300V9.800z" />
      <path d="M16 16 5.500 10M16 16l10.500-6M16 16v12" />
      <circle cx="16" cy="16" r="3.600" />
    </svg>
  )
}

const themes: { value: Theme; title: string; icon: 'system' | 'sun' | 'moon' }[] = [
  { value: 'system', title: 'As the system', icon: 'system' },
  { value: 'light', title: 'Light', icon: 'sun' },
  { value: 'dark', title: 'Dark', icon: 'moon' },
]

function TopBar({ menu }: { menu: () => void }) {
  return (
    <header class="top">
      <Button kind="ghost" icon="menu" label="Menu" onClick={menu} />
      <a class="top-brand" href={href('overview')} aria-label="clusterd, overview">
        <Logo size={24} />
      </a>
      <button type="button" class="top-search" aria-haspopup="dialog" aria-keyshortcuts="Control+K" onClick={() => (paletteOpen.value = true)}>
        <Icon name="search" />
        <span>Go to or do …</span>
        <kbd>{/Mac/.test(navigator.platform) ? '⌘' : 'Ctrl'} K</kbd>
      </button>
      <div class="top-end">
        <Light />
        <Menu
          label="Colours"
          icon={themes.find((t) => t.value === theme.value)?.icon ?? 'system'}
          items={themes.map((t) => ({ title: t.title, icon: t.icon, checked: theme.value === t.value, run: () => (theme.value = t.value) }))}
        />
        <SessionMenu />
      </div>
    </header>
  )
}

const words = { live: 'Live', connecting: 'Connecting', lost: 'No connection', failover: 'New leader' }

/** Light says whether what is on the screen is true. */
function Light() {
  const c = connection.value
  const l = leader.value
  const title = c === 'live' && l !== undefined ? `Live from ${l.hostname}:${l.port}` : words[c]
  return (
    <a class={'light light-' + c} href={href(can('VIEW_REGISTRY') ? 'registry' : 'overview')} title={title}>
      <span class="dot" />
      <span class="light-text">{words[c]}</span>
    </a>
  )
}

function SessionMenu() {
  const s = session.value
  const who = s?.principal?.value
  const asks = s !== undefined && s.schemes.length > 0
  return (
    <Menu
      label={who === undefined ? 'Session' : 'Session of ' + who}
      icon="user"
      items={[
        who !== undefined && { title: who, icon: 'user' as const, disabled: true },
        asks && who === undefined && { title: 'Log in', icon: 'user' as const, run: () => (loginNeeded.value = true) },
        asks &&
          who !== undefined && {
            title: 'Log out',
            icon: 'logout' as const,
            run: () => {
              logout().then(
                () => toast('Logged out.'),
                (err: unknown) => toast(String(err), { kind: 'bad' }),
              )
            },
          },
        { title: 'Keys', icon: 'help' as const, run: showHelp },
      ]}
    />
  )
}

function Banner() {
  const c = connection.value
  const t = trouble.value
  if (c === 'failover') {
    const l = leader.value
    return (
      <div class="banner banner-info" role="status">
        <Icon name="leader" size={18} />
        <span>
          Master <strong>{l?.hostname}:{l?.port}</strong> leads now. Everything here is up to date again.
        </span>
      </div>
    )
  }
  if (t === undefined || (c !== 'lost' && c !== 'connecting')) return null
  const left = Math.max(0, Math.ceil(t.retryAt - second.value))
  return (
    <div class="banner banner-bad" role="alert">
      <Icon name="warning" size={18} />
      <span>
        {c === 'lost' ? 'The connection is lost; what you see may be old. ' : ''}
        <span class="banner-why">{t.message}</span> <span class="num">{left > 0 ? `Trying again in ${left} s.` : 'Trying …'}</span>
        <OtherMasters />
      </span>
    </div>
  )
}

/** OtherMasters are links to the same page elsewhere, for when the master that served it is gone. */
function OtherMasters() {
  const others = masters.value.filter((m) => m !== location.host)
  if (others.length === 0) return null
  return (
    <span>
      {' '}
      Other masters:{' '}
      {others.map((m, i) => (
        <>
          {i > 0 && ', '}
          <a key={m} class="banner-link" href={`${location.protocol}//${m}/${location.hash}`}>
            {m}
          </a>
        </>
      ))}
    </span>
  )
}

/** BottomBar is the navigation of telephones. */
function BottomBar({ more }: { more: () => void }) {
  const name = useRoute().name
  return (
    <nav class="bottom" aria-label="Main pages">
      {items
        .filter((i) => i.first === true)
        .map((i) => (
          <a key={i.route} class={cx('bottom-item', isHere(i, name) && 'nav-on')} href={href(i.route)} aria-current={i.route === name ? 'page' : undefined}>
            <Icon name={i.icon} size={20} />
            <span>{i.title}</span>
          </a>
        ))}
      <button type="button" class="bottom-item" onClick={more}>
        <Icon name="more" size={20} />
        <span>More</span>
      </button>
    </nav>
  )
}
