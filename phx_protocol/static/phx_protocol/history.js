// A channel that misses nothing: after a reconnect it gets what was broadcast meanwhile, in order
// and before anything new. The channel class on the server has a `history`; phoenix.js is as it is.
//
//   const room = channelWithHistory(socket, "room:lobby")
//   room.join().receive("ok", ({ history }) => history.recovered || loadEverything())

/** As socket.channel(topic, params); every join tells the server the last offset that it had. */
export function channelWithHistory(socket, topic, params = {}) {
  const have = { offset: null, senders: [] };
  const given = typeof params === "function" ? params : () => params;
  const channel = socket.channel(topic, () => ({ ...given(), history: have }));
  channel.joinPush.receive("ok", ({ history }) => {
    if (!history) return; // the channel class has none
    if (!history.recovered) have.offset = history.offset; // else what was missed brings its own
    have.senders = [...have.senders.slice(-19), history.sender]; // whom we need not hear again
  });
  const trigger = channel.trigger;
  channel.trigger = (event, payload, ref, joinRef) => {
    // a kept broadcast has its offset where other messages have a number or nothing
    if (event !== "phx_reply" && /^[a-z]\w*-\d+$/.test(ref)) {
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
