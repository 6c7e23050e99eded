/**
 * What the editor alone shows differently: passes as "2x, 4x, 8x ...", choices in the language of the editor, of the inputs
 * about time those that matter, nodes as wide as their choices, and the text of a result after the run.
 *
 * Names, order and values of the inputs stay as the server knows them. So a workflow that was saved with this file loads
 * and runs without it, and the other way round.
 */
import { api } from "../../scripts/api.js"
import { app } from "../../scripts/app.js"

const PASSES = "recursive_interpolation_passes"

/** The choices of `time`, and the inputs that have a meaning with each of them. All other inputs always have one. */
const USED = {
    smooth: [PASSES],
    "target rate": ["output_fps"],
    "slow motion": [PASSES, "slow_motion_sound"],
    "speed curve": ["output_fps", "slow_motion_sound", "speed_curve"],
    length: ["output_fps", "slow_motion_sound", "seconds"],
}

function widgetOf(node, name) {
    return node.widgets?.find((widget) => widget.name === name)
}

/** Calls `after` each time that `object` has carried out its method of that name. */
function follow(object, method, after) {
    const original = object[method]
    object[method] = function (...values) {
        const result = original?.apply(this, values)
        after(...values)
        return result
    }
}

/** Makes a list's value text whoever sets it: lists show numbers as unknown values. */
function keepText(list) {
    let kind = list
    while (kind && !Object.getOwnPropertyDescriptor(kind, "value")?.set) kind = Object.getPrototypeOf(kind)
    const value = kind && Object.getOwnPropertyDescriptor(kind, "value")
    if (!value) return
    Object.defineProperty(list, "value", {
        get: () => value.get.call(list),
        set: (given) => value.set.call(list, typeof given === "number" ? String(given) : given),
        configurable: true,
        enumerable: true,
    })
}

/** A list of factors in place of the number of passes: a slider of its width jumps from 16x to 256x. */
function listFactors(node) {
    const passes = widgetOf(node, PASSES)
    if (passes?.type !== "number" && passes?.type !== "slider") return
    const place = node.widgets.indexOf(passes)
    const { min, max } = passes.options
    const list = node.addWidget("combo", PASSES, String(passes.value), passes.callback, {
        values: Array.from({ length: max - min + 1 }, (_, k) => String(min + k)),
        getOptionLabel: (value) => (value == null ? "" : `${2 ** Number(value)}x`),
    })
    keepText(list)
    list.label = passes.label
    list.tooltip = passes.tooltip
    list.serializeValue = () => Number(list.value)
    node.widgets.splice(node.widgets.indexOf(list), 1)
    node.widgets.splice(place, 1, list)
    follow(node, "onSerialize", (saved) => {
        saved.widgets_values[node.widgets.indexOf(list)] = Number(list.value)
    })
}

function setHidden(widget, hidden) {
    widget.hidden = hidden
    // Vue nodes are drawn again when this state changes, and not when the options alone do.
    const drawn = widget._state ?? widget
    drawn.options = { ...widget.options, hidden }
}

/** Of the inputs about time, hides those that the chosen way does not use. */
function showUsedInputs(node) {
    const time = widgetOf(node, "time")
    if (!time) return
    const depending = new Set(Object.values(USED).flat())
    const update = () => {
        const used = USED[time.value]
        if (!used) return
        for (const widget of node.widgets) {
            if (depending.has(widget.name)) setHidden(widget, !used.includes(widget.name))
        }
        node.setSize([node.size[0], node.computeSize()[1]])
        node.graph?.setDirtyCanvas(true, true)
    }
    follow(time, "callback", update)
    follow(node, "onConfigure", update)
    update()
}

/** What the server has of translations: {language: {nodeDefs: {node: {inputs: {input: {options: {value: label}}}}}}}. */
let translations = {}

/** The editor itself translates the names of inputs, and not their choices. */
async function loadTranslations() {
    const language = app.extensionManager.setting.get("Comfy.Locale")
    if (language !== "en" && !translations[language]) translations = await api.getCustomNodesI18n()
}

/** Shows the choices of lists in people's words, and in the language of the editor. Their values stay what they are. */
function labelChoices(node) {
    const language = app.extensionManager.setting.get("Comfy.Locale")
    const translated = translations[language]?.nodeDefs?.[node.comfyClass]?.inputs
    const { required, optional } = node.constructor.nodeData?.input ?? {}
    for (const widget of node.widgets ?? []) {
        const english = (required?.[widget.name] ?? optional?.[widget.name])?.[1]?.labels
        const labels = english && { ...english, ...translated?.[widget.name]?.options }
        if (labels) widget.options.getOptionLabel = (value) => labels[value] ?? value ?? ""
    }
}

/** What a node takes beside the label and the value of an input: its edges, arrows and gaps. */
const BESIDE_TEXTS = 100
/** Vue nodes give labels at least this much. */
const LEAST_LABEL = 80

/** Makes a new node as wide as its labels, choices and texts need: the editor leaves room for values of a few letters. */
function fitTexts(node) {
    const pen = document.createElement("canvas").getContext("2d")
    pen.font = node.innerFontStyle
    const longest = (texts) => Math.max(0, ...texts.map((text) => pen.measureText(text).width))
    const widgets = node.widgets?.filter((widget) => !widget.element) ?? []
    const texts = widgets.flatMap(({ type, value, options: { values, getOptionLabel } }) => {
        if (type === "combo" && Array.isArray(values)) return values.map((choice) => getOptionLabel?.(choice) ?? choice)
        return typeof value === "string" ? [value] : []
    })
    if (!texts.length) return
    const labels = longest(widgets.map(({ name, label }) => label ?? name))
    const width = Math.max(labels, LEAST_LABEL) + longest(texts) + BESIDE_TEXTS
    node.setSize([Math.max(node.size[0], width), node.size[1]])
}

/** The results that the nodes told of in this run. */
const results = new Map()

/** Shows what a node told of its result once the run is over: cached nodes tell it no other way, and newer editors clear
 * the texts of a run when it ends. */
function showResult(node) {
    follow(node, "onExecuted", (output) => {
        if (output?.text) results.set(node, output.text.join("\n"))
    })
}

function showResults() {
    for (const [node, text] of results) {
        if (node.graph === app.canvas.graph) api.dispatchCustomEvent("progress_text", { nodeId: String(node.id), text })
    }
    results.clear()
}

app.registerExtension({
    name: "amt-frame-interpolation.editor",
    async init() {
        await loadTranslations()
        // behind what the editor itself does at the end of a run
        api.addEventListener("execution_success", () => setTimeout(showResults))
    },
    refreshComboInNodes: loadTranslations, // also when the language was changed
    nodeCreated(node) {
        if (!node.comfyClass?.startsWith("AMT")) return
        listFactors(node)
        labelChoices(node)
        fitTexts(node)
        showUsedInputs(node)
        showResult(node)
    },
})
