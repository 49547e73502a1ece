/**
 * xterm.js writes style sheets into <style> elements and colours into style attributes. The
 * content security policy permits neither, since both are what an injection would use. The same
 * set by script through the CSS object model is permitted, so the terminal is given a document
 * that does it that way.
 */

/** safeDocument is the document, but for what it makes of styles. */
export function safeDocument(real: Document): Document {
  const createElement = (name: string, options?: ElementCreationOptions): HTMLElement => {
    if (name.toLowerCase() === 'style') return styleElement(real)
    const el = create(real, name, options)
    el.setAttribute = setAttribute
    return el
  }
  const bound = new Map<PropertyKey, unknown>([['createElement', createElement]])
  return new Proxy(real, {
    get(target, key) {
      const known = bound.get(key)
      if (known !== undefined) return known
      const value: unknown = Reflect.get(target, key, target)
      if (typeof value !== 'function') return value
      const f: unknown = (value as (...args: unknown[]) => unknown).bind(target)
      bound.set(key, f)
      return f
    },
    set(target, key, value) {
      return Reflect.set(target, key, value, target)
    },
  })
}

/**
 * withSafeDocument runs something that asks the page's own document for elements: parts of xterm.js
 * do so when a terminal is opened, whatever document it was given.
 */
export function withSafeDocument(real: Document, run: () => void): void {
  const safe = safeDocument(real)
  real.createElement = safe.createElement.bind(safe)
  try {
    run()
  } finally {
    // What was put in front of the prototype's method is taken away again.
    delete (real as Partial<Pick<Document, 'createElement'>>).createElement
  }
}

/** create is what any document does, whatever stands in front of it. */
function create(doc: Document, name: string, options?: ElementCreationOptions): HTMLElement {
  return Document.prototype.createElement.call(doc, name, options) as HTMLElement
}

function setAttribute(this: HTMLElement, name: string, value: string): void {
  if (name === 'style') this.style.cssText = value
  else Element.prototype.setAttribute.call(this, name, value)
}

/** styleElement stands for a <style>: what is written into it becomes an adopted style sheet. */
function styleElement(doc: Document): HTMLElement {
  const sheet = new CSSStyleSheet()
  const el = create(doc, 'span')
  el.hidden = true
  Object.defineProperty(el, 'textContent', {
    get: () => '',
    set: (css: string) => {
      sheet.replaceSync(css)
      if (!doc.adoptedStyleSheets.includes(sheet)) doc.adoptedStyleSheets = [...doc.adoptedStyleSheets, sheet]
    },
  })
  el.remove = () => {
    doc.adoptedStyleSheets = doc.adoptedStyleSheets.filter((s) => s !== sheet)
    Element.prototype.remove.call(el)
  }
  return el
}
