// each of these is an error, and nothing else is
import { Socket } from "phoenix"
import { backOfficeSocketChannel, chatSocketChannel } from "./contract"

const socket = new Socket("/socket")
const room = chatSocketChannel(socket, "room:1", {})

// @ts-expect-error: the body is a string
room.push("new_msg", { body: 1 })
// @ts-expect-error: there has to be a body
room.push("new_msg", {})
// @ts-expect-error: no such mood
room.push("new_msg", { body: "x", mood: "angry" })
// @ts-expect-error: nobody handles it
room.push("new_message", { body: "x" })
// @ts-expect-error: nobody sends it
room.on("messages", () => {})
// @ts-expect-error: a message has no text
room.on("message", (message) => console.log(message.text))
// @ts-expect-error: an image has no text
room.on("part", (part) => part.type === "image" && console.log(part.text))
// @ts-expect-error: it is never answered so
room.push("move", { x: 1, y: 2 }).receive("fine", () => {})
// @ts-expect-error: its name is a string
chatSocketChannel(socket, "room:1", { name: 1 })
// @ts-expect-error: no channel takes that topic
backOfficeSocketChannel(socket, "rooms:1")
