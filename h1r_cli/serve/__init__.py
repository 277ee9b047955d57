"""Any engine behind the OpenAI API.

shared    one thread that owns the engine, and a view of it for each who asks
asked     the body of a request -> what to sample
text      token ids -> text as it comes: whole characters, stop strings, thought and answer apart
speaker   one choice of an answer: the engine's events -> what is new of it
answers   text -> the JSON of an answer, whole or as a stream
voted     a request answered by DeepConf
desk      what only the main thread may do, left for it by the others
app       the routes, with starlette
wire      bodies, clients that go, and errors in OpenAI's form
http      the server, uvicorn, in a thread
"""
