/** uPlot with its style: a chunk of its own, loaded when the first plot is shown. */
import 'uplot/dist/uPlot.min.css'

export { default } from 'uplot'
