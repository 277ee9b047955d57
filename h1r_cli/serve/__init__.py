"""Any engine behind the OpenAI API.

shared    one thread that owns the engine, and a view of it for each who asks
asked     the body of a request -> what to sample
text      token ids -> text as it comes: whole characters, stop strings, thought and answer apart
answers   text -> the JSON of an answer, whole or as a stream
voted     a request answered by DeepConf
app       the routes, with starlette
"""
