/**
 * xterm.js writes style sheets into <style> elements and colours into style attributes. The
 * content security policy permits neither, since both are what an injection would use. The same
 * set by script through the CSS object model is permitted, so as long as a terminal is open the
 * document makes elements that do it that way. (xterm.js can be given another document, but asks
 * the page's own all the same in several places.)
 */

let open = 0

/** safeStyles has the document make such elements until the returned function is called. */
export function safeStyles(doc: Document): () => void {
  if (open++ === 0) {
    doc.createElement = (name: string, options?: ElementCreationOptions): HTMLElement => {
      if (name === 'style') return styleElement(doc)
      const el = create(doc, name, options)
      el.setAttribute = setAttribute
      return el
    }
  }
  let held = true
  return () => {
    if (!held) return
    held = false
    // What stands in front of the prototype's method is taken away again.
    if (--open === 0) delete (doc as Partial<Pick<Document, 'createElement'>>).createElement
  }
}

/** create is what any document does, whatever stands in front of it. */
function create(doc: Document, name: string, options?: ElementCreationOptions): HTMLElement {
  return Document.prototype.createElement.call(doc, name, options)
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
