// A channel that misses nothing: after a reconnect it gets what was broadcast meanwhile, in order
// and before anything new. The channel class on the server has a `history`; phoenix.js is as it is.
//
//   const room = channelWithHistory(socket, "room:lobby")
//   room.join().receive("ok", ({ history }) => history.recovered || loadEverything())
//
// With a `rewind` the first join brings the newest broadcasts in the same way, after the reply. A page
// that shows what was there when it was made has nothing to load then:
//
//   let isFirst = true
//   room.on("new_msg", (message) => shown.has(message.id) || show(message))
//   room.join().receive("ok", ({ history }) => {
//     if (!history.recovered && !isFirst) location.reload() // it was away for too long
//     isFirst = false
//   })

/** As socket.channel(topic, params); every join tells the server the last offset that it had. */
export function channelWithHistory(socket, topic, params = {}) {
  const have = { offset: null, senders: [] };
  const given = typeof params === "function" ? params : () => params;
  const channel = socket.channel(topic, () => ({ ...given(), history: have }));
  channel.joinPush.receive("ok", ({ history }) => {
    if (!history) return; // the channel class has none
    // what was missed brings its own, and a rewind begins after this one
    if (!history.recovered) have.offset = history.offset;
    have.senders = [...have.senders.slice(-19), history.sender]; // whom we need not hear again
  });
  const trigger = channel.trigger;
  channel.trigger = (event, payload, ref, joinRef) => {
    // a kept broadcast has its offset where other messages have a number or nothing
    if (/^[a-z]\w*-\d+$/.test(ref)) {
      // of the binary frames only a reply has room for it
      if (event === "phx_reply") [event, payload] = [payload.status, payload.response];
      if (channel.state !== "joined") return; // the join that is under way will bring it
      if (isWithin(have.offset, ref)) return; // an answer to a poll came twice
      have.offset = ref;
    }
    trigger.call(channel, event, payload, ref, joinRef);
  };
  return channel;
}

/** Whether what has the offset `ref` was there when `last` was: "epoch-7" is within "epoch-9". */
function isWithin(last, ref) {
  const [epoch, n] = ref.split("-");
  const [lastEpoch, lastN] = (last ?? "").split("-");
  return epoch === lastEpoch && Number(n) <= Number(lastN);
}
