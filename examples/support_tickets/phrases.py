"""Contains the phrases of the tickets. `{p}` is a product, `{n}` a name. TEST_PROBLEMS are only in test.jsonl."""

# Maps each product to its house name and its ordinary name. A ticket may use either one.
PRODUCTS = {
    "kettle": ("Heron", "kettle"),
    "lamp": ("Wren", "desk lamp"),
    "fan": ("Kestrel", "fan"),
    "toaster": ("Robin", "toaster"),
    "vacuum": ("Plover", "vacuum cleaner"),
    "blender": ("Teal", "blender"),
    "radio": ("Lark", "radio"),
    "heater": ("Osprey", "heater"),
}

# Maps each intent to its team.
TEAMS = {
    "fault": "bench",
    "return": "desk",
    "invoice": "ledger",
    "delivery": "dock",
    "howto": "guide",
    "parts": "store",
}


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().splitlines()]


PROBLEMS = {
    "fault": _lines("""
        my {p} won't switch on any more.
        the {p} died in the middle of breakfast.
        the {p} makes a terrible grinding noise.
        the light on my {p} blinks and then it shuts off.
        the {p} stopped working after two weeks.
        one button on the {p} is stuck and does nothing.
        my {p} turns itself off every few minutes.
        the {p} I got in May is broken.
        the {p} just buzzes and nothing happens.
        our {p} has gone dead.
        the {p} crackles and cuts out all the time.
        the {p} runs for a minute, then quits.
        my {p} is faulty, it trips the fuse.
        the {p} shows error E4 and refuses to start.
        the {p} has been rattling like mad lately.
        something inside the {p} came loose and it won't run.
        the {p} does not react when I press start.
        my {p} keeps freezing on the same setting.
        the {p} packed up after a month.
        my {p} is broken, it stays cold and quiet.
    """),
    "return": _lines("""
        I want to send the {p} back for a refund.
        please take the {p} back and refund me.
        the {p} is not what I expected, can I return it?
        I'd like my money back for the {p}.
        how do I return the {p}? I never opened it.
        we don't like the {p} and want to return it.
        the {p} is the wrong colour, I want to send it back.
        can I get a refund for the {p}?
        I changed my mind about the {p}, please refund it.
        I was given a second {p} and want to return one.
        please send me a return label for the {p}.
        the {p} is too loud for us, we'd rather have the money back.
        the {p} is too big, so I'm sending it back.
        I regret buying the {p}, can you take it back?
        returning my {p}: what address do I use?
        the {p} didn't suit my mum, she wants a refund.
        I want to undo my purchase of the {p}.
        is the {p} still within the return period?
    """),
    "invoice": _lines("""
        I was charged twice for the {p}.
        the invoice for my {p} has the wrong address.
        please send me the invoice for the {p}.
        my card was billed two times for one {p}.
        the VAT number is missing on the bill for the {p}.
        I never got a receipt for the {p}.
        the amount you charged for the {p} is too high.
        my bank shows a strange payment for the {p}.
        the discount was not taken off the {p} bill.
        our accountant needs a proper invoice for the {p}.
        why does the {p} receipt say 89 when it cost 79?
        I paid for the {p} but my account says unpaid.
        you charged me postage on the {p}, the ad said free.
        can I pay for the {p} by bank transfer instead?
        I need the company name on the invoice for our {p}.
        the payment for my {p} failed but the money is gone.
        I need a copy of the {p} receipt for my taxes.
        there are two charges for the {p} on my statement.
    """),
    "delivery": _lines("""
        where is the {p} I ordered?
        my {p} still hasn't arrived.
        the tracking for my {p} hasn't moved in a week.
        the courier says my {p} was delivered, but I have nothing.
        when will the {p} be shipped?
        the parcel with my {p} went to my old address.
        can you deliver the {p} to my office instead?
        the box with the {p} never came.
        my order for the {p} is three days late.
        the driver left my {p} at the wrong house.
        I need a new delivery date for the {p}.
        has my {p} left the warehouse yet?
        the tracking number for the {p} does not work.
        I missed the courier, can he bring the {p} again?
        my {p} has been stuck in customs for days.
        the shipment of the {p} seems to be lost.
        please change the delivery address for my {p}.
        you shipped the {p} to the wrong town.
    """),
    "howto": _lines("""
        how do I clean the {p}?
        how do I set the timer on the {p}?
        what does the blue light on the {p} mean?
        can I leave the {p} on overnight?
        which setting of the {p} is the quiet one?
        how do I connect the {p} to my phone?
        where can I find the manual for the {p}?
        how often should the {p} be cleaned?
        can I use the {p} outdoors?
        I don't understand the buttons on the {p}.
        how do I reset the {p} to factory settings?
        can you explain the eco mode of the {p}?
        how do I turn off the beep on my {p}?
        what is the best way to store the {p}?
        does the {p} work on 110 volts?
        how do I lock the {p} so the kids can't use it?
        which mode of the {p} uses the least power?
        I can't figure out how to open the {p}.
        is it fine to run the {p} all night?
        may I use the {p} in the bathroom?
    """),
    "parts": _lines("""
        I need a spare cable for the {p}.
        do you sell a new cover for the {p}?
        where can I buy a replacement filter for the {p}?
        I lost the plug of my {p}, can I order one?
        I'd like to order a second base for the {p}.
        can I buy just the handle for the {p}?
        the knob of my {p} got lost, do you have another?
        do you have spare screws for the {p}?
        what does a new cord for the {p} cost?
        I want to order a replacement foot for the {p}.
        is the carrying case for the {p} sold separately?
        which battery fits the {p} and can I buy it from you?
        I'm looking for an extra adapter for my {p}.
        are spare parts for the {p} still available?
        can I order a new button for my {p}?
        we need two more filters for the {p}.
        the cap of my {p} is missing, can I get a new one?
        do you stock the seal for the {p}?
    """),
}

TEST_PROBLEMS = {
    "fault": _lines("""
        the {p} has given up on me.
        nothing happens when I plug the {p} in.
        our {p} cuts out after ten seconds.
        my {p} is dead, not even a beep.
        the {p} is making a horrible screech.
        the {p} broke down again.
    """),
    "return": _lines("""
        I would like to return my {p} and be paid back.
        not happy with the {p}, please give me a refund.
        can the {p} go back? it's smaller than I thought.
        my wife hates the {p}, how can we return it?
        please undo my {p} order and refund the price.
        the {p} isn't for me, I want my money back.
    """),
    "invoice": _lines("""
        you billed my card twice for the {p}.
        could I have a receipt for the {p} I bought?
        the price on my {p} invoice is wrong.
        our invoice for the {p} lacks the tax number.
        I see a double payment for the {p} on my card.
        my {p} bill shows the wrong amount.
    """),
    "delivery": _lines("""
        I am still waiting for my {p} to arrive.
        the {p} was due last week and never came.
        could the courier drop the {p} at my neighbour's?
        the tracking says my {p} is lost.
        when does my {p} get here?
        my parcel with the {p} is late.
    """),
    "howto": _lines("""
        how can I mute my {p}?
        what do the symbols on the {p} mean?
        can the {p} stay plugged in all day?
        how do I change the language on the {p}?
        is there a guide for the {p} that I can read?
        how do I put the {p} into sleep mode?
    """),
    "parts": _lines("""
        I need a new cable for my {p}.
        can I buy a spare filter for the {p}?
        where do I order a replacement knob for the {p}?
        do you still sell covers for the {p}?
        I lost the adapter of the {p} and need another.
        could I order extra screws for my {p}?
    """),
}

# Maps each house word for a reply channel to requests for it.
REPLIES = {
    "bell": _lines("""
        Please call me back.
        Can someone phone me?
        Give me a ring, please.
        I'd rather talk on the phone.
        Please call after six.
        A phone call would be best.
        Call my mobile, please.
        Can you ring me tomorrow?
        Please phone my office.
        I prefer a call.
        Just give me a call.
        Please ring, I can't type well.
    """),
    "quill": _lines("""
        Please answer by email.
        Just email me.
        Send me an e-mail, please.
        Please write to my inbox.
        An email is fine.
        I prefer email.
        Write me an email when you know more.
        Please mail me the answer.
        Email works best for me.
        Drop me an e-mail.
        Please reply to this email.
        You have my email address.
    """),
    "ping": _lines("""
        Please text me.
        Send me an SMS.
        A text message is fine.
        Just text my mobile.
        I prefer a text.
        Text me when you know more.
        An SMS will do.
        Please answer by text message.
        Drop me a text.
        Could you send a text message?
        Text works best for me.
        Please reply by SMS.
    """),
}

OPENERS = [
    "",
    "",
    "",
    "",
    "Hi,",
    "Hello,",
    "Hey there,",
    "Good morning,",
    "Dear team,",
    "Hi, {n} here,",
    "Hello all,",
]
CLOSERS = ["", "", "", "", "", "{n}", "Best, {n}", "Regards, {n}", "Cheers"]
NAMES = [
    "Ana",
    "Tom",
    "Priya",
    "Jonas",
    "Mei",
    "Omar",
    "Lucy",
    "Pavel",
    "Sofia",
    "Kwame",
    "Nora",
    "Hugo",
    "Aisha",
    "Ben",
]
